/*
 * table_stream.c - reading a table from front to back through ordinary reads.
 *
 * The index tells where blocks lie; it was verified when the table was opened and is used through
 * the map. Everything else comes through a window.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/filter.h"
#include "store/lsm/table_read.h"

static enum err open_window(struct vfs_dir *dir, const struct table *table,
                            enum table_window_use use, struct table_window *ret_window)
{
    /* The rest is used through the map. */
    return table_window_open(dir, table->name, table->footer.regions[REGION_INDEX].offset, use,
                             ret_window);
}

/* --- Blocks ----------------------------------------------------------------------------------- */

static enum block_fault copy_entry(struct table *table, void *arg, volatile uint64_t *at)
{
    struct table_block_read *read = arg;

    *at = table->footer.regions[REGION_INDEX].offset;
    read->entry = table->entries[read->number];
    read->range = table_block_range(table, read->number);
    return table_entry_is_sane(table, &read->entry) && read->entry.offset >= read->begin &&
                   read->entry.offset - read->begin <= TABLE_GAP_MAX_BYTES
               ? BLOCK_OK
               : BLOCK_CHANGED;
}

enum block_fault table_read_entry(struct table *table, struct table_block_read *read)
{
    return table_guarded(table, copy_entry, read);
}

static enum block_fault verify_values(struct block block)
{
    for (uint32_t slot = 0; slot < block.records; slot++) {
        const struct record *record;
        enum block_fault fault = block_record(block, slot, &record);
        if (fault) {
            return fault;
        }
        if (record_verify_value(record, 0, record->value_size)) {
            return BLOCK_BAD_VALUE;
        }
    }
    return BLOCK_OK;
}

/* Under the guard for the separators' sake, which lie in the map. */
static enum block_fault verify_block(struct table *table, void *arg, volatile uint64_t *at)
{
    struct table_block_read *read = arg;

    *at = read->entry.offset;
    enum block_fault fault =
        block_verify(read->block, &read->entry, read->range, table->info.file_id);
    return fault ? fault : verify_values(read->block);
}

enum err table_read_block(struct table *table, struct table_block_read *read,
                          enum block_fault *ret_fault)
{
    *ret_fault = table_read_entry(table, read);
    if (*ret_fault) {
        return ERR_OK;
    }
    uint64_t gap = read->entry.offset - read->begin;
    uint64_t size = (uint64_t)read->entry.size_units * 8;
    enum err err = table_window_load(read->window, read->begin, gap + size, &read->data);
    if (err == ERR_NO_MEMORY) {
        return err;
    }
    if (err) {
        *ret_fault = BLOCK_UNREADABLE;
        return ERR_OK;
    }
    read->block = block_of(read->data + gap, &read->entry);
    *ret_fault =
        bytes_are_zero(read->data, gap) ? table_guarded(table, verify_block, read) : BLOCK_BAD_GAP;
    return ERR_OK;
}

/* --- The stream ------------------------------------------------------------------------------- */

struct table_stream {
    struct table *table;
    struct table_window window;
    struct table_block_read read; /* the block that the records come from */
    uint32_t slot;                /* of the next one */
    bool begun;
};

enum err table_stream_new(struct vfs_dir *dir, struct table *table,
                          struct table_stream **ret_stream)
{
    struct table_stream *stream = calloc(1, sizeof *stream);

    if (!stream) {
        return ERR_NO_MEMORY;
    }
    enum err err = open_window(dir, table, WINDOW_DROP, &stream->window);
    if (err) {
        free(stream);
        return err;
    }
    stream->table = table;
    stream->read.window = &stream->window;
    stream->read.begin = TABLE_DATA_OFFSET;
    *ret_stream = stream;
    return ERR_OK;
}

void table_stream_free(struct table_stream *stream)
{
    if (stream) {
        table_window_close(&stream->window);
        free(stream);
    }
}

static enum err next_block(struct table_stream *stream, struct err_detail *detail)
{
    struct table_block_read *read = &stream->read;
    enum block_fault fault;

    if (stream->begun) {
        read->begin = table_block_read_end(read);
        read->number++;
    }
    stream->begun = true;
    stream->slot = 0;
    if (read->number == stream->table->blocks) {
        read->block.records = 0;
        return ERR_OK;
    }
    enum err err = table_read_block(stream->table, read, &fault);
    if (err) {
        return err;
    }
    if (fault) {
        err_detail_set(detail, "%s, offset %" PRIu64 ": %s", stream->table->name, read->begin,
                       block_fault_text(fault));
    }
    return block_fault_err(fault);
}

enum err table_stream_next(struct table_stream *stream, const struct record **ret_record,
                           struct err_detail *detail)
{
    if (stream->slot == stream->read.block.records && stream->read.number < stream->table->blocks) {
        enum err err = next_block(stream, detail);
        if (err) {
            return err;
        }
    }
    if (stream->slot == stream->read.block.records) {
        *ret_record = NULL;
        return ERR_OK;
    }
    return block_fault_err(block_record(stream->read.block, stream->slot++, ret_record));
}

/* --- Verifying all of it ---------------------------------------------------------------------- */

struct verification {
    struct table *table;
    struct table_window window;
    table_bad_fn *bad;
    void *arg;
    struct err_detail *detail;
    enum err result;                       /* of the damage so far */
    struct table_block_read read;          /* the block at hand */
    struct table_key last;                 /* key of the block before; size 0: it was damaged */
    uint8_t end[RECORD_KEY_MAX_BYTES + 1]; /* the first key above that of a damaged value */
    struct table_info found;               /* counted over the good blocks */
};

/* Keys are bytes: shows the beginning of one, what isn't printable as \xNN. */
static void show_key(struct bytes key, char ret_text[], size_t size)
{
    const uint8_t *bytes = key.data;
    size_t n = 0;

    for (size_t i = 0; i < key.size && n + 8 < size; i++) {
        bool plain = bytes[i] > 0x20 && bytes[i] < 0x7F && bytes[i] != '\\';
        n += (size_t)snprintf(ret_text + n, size - n, plain ? "%c" : "\\x%02X", bytes[i]);
    }
    (void)snprintf(ret_text + n, size - n, "%s", "");
}

void table_range_text(struct block_range range, struct err_detail *ret_text)
{
    char first[64];
    char end[64];

    show_key(range.separator, first, sizeof first);
    show_key(range.next_separator, end, sizeof end);
    err_detail_set(ret_text, "from \"%s\" up to \"%s\"", first, end);
}

static void report(struct verification *verification, enum err err, uint64_t offset,
                   struct block_range range, const char *text)
{
    if (verification->result == ERR_OK) {
        struct err_detail keys;
        table_range_text(range, &keys);
        err_detail_set(verification->detail, "%s, offset %" PRIu64 ": %s (keys %s)",
                       verification->table->name, offset, text, keys.text);
    }
    if (verification->result != ERR_CORRUPT) {
        verification->result = err;
    }
    if (verification->bad) {
        verification->bad(verification->arg, offset, range.separator, range.next_separator, text);
    }
}

/* The separator is the shortest beginning of the first key that is above the key before. */
static bool separator_is_shortest(const struct verification *verification, struct bytes first)
{
    struct bytes last = table_key_bytes(&verification->last);
    size_t size = verification->read.range.separator.size;

    if (verification->read.number == 0) {
        return size == first.size;
    }
    return last.size == 0 || size == table_common_bytes(last, first) + UINT64_C(1);
}

/* What block_verify() can't see: the filter, the block before, the sums. Under the guard. */
static enum block_fault check_records(struct table *table, void *arg, volatile uint64_t *at)
{
    struct verification *verification = arg;
    struct table_info *found = &verification->found;
    struct block block = verification->read.block;

    for (uint32_t slot = 0; slot < block.records; slot++) {
        const struct record *record;
        enum block_fault fault = block_record(block, slot, &record);
        if (fault) {
            return fault;
        }
        struct bytes key = record_key(record);
        *at = table->footer.regions[REGION_FILTER].offset;
        if (!filter_may_contain(table->filter, table->filter_bytes, table_hash(key))) {
            return BLOCK_BAD_FILTER;
        }
        if (slot == 0 && !separator_is_shortest(verification, key)) {
            return BLOCK_BAD_SEPARATOR;
        }
        found->min_seq =
            found->records == 0 || record->seq < found->min_seq ? record->seq : found->min_seq;
        found->max_seq = record->seq > found->max_seq ? record->seq : found->max_seq;
        found->records++;
        found->markers += record->kind == RECORD_DELETE;
        found->data_bytes += record_size(record);
        verification->last.size = (uint16_t)key.size;
        memcpy(verification->last.data, key.data, key.size);
    }
    return BLOCK_OK;
}

/* Of a long value the key is known: its record's head was verified. */
static struct block_range damaged_range(struct verification *verification, enum block_fault fault)
{
    const struct table_block_read *read = &verification->read;
    const struct record *record;

    if (fault != BLOCK_BAD_VALUE || read->block.records != 1 ||
        block_record(read->block, 0, &record) != BLOCK_OK) {
        return read->range;
    }
    struct bytes key = record_key(record);
    memcpy(verification->end, key.data, key.size);
    verification->end[key.size] = 0;
    return (struct block_range){.separator = key,
                                .next_separator = bytes_of(verification->end, key.size + 1)};
}

static enum err verify_blocks(struct verification *verification)
{
    struct table *table = verification->table;
    struct table_block_read *read = &verification->read;

    read->window = &verification->window;
    read->begin = TABLE_DATA_OFFSET;
    for (; read->number < table->blocks; read->number++) {
        enum block_fault fault;
        enum err err = table_read_block(table, read, &fault);
        if (err) {
            return err;
        }
        if (!fault) {
            fault = table_guarded(table, check_records, verification);
        }
        if (fault) {
            verification->last.size = 0;
            report(verification, block_fault_err(fault), read->entry.offset,
                   damaged_range(verification, fault), block_fault_text(fault));
        }
        read->begin = table_block_read_end(read);
    }
    return ERR_OK;
}

/* The zeros before the index and between the regions. */
static enum err verify_gaps(struct verification *verification)
{
    const struct table_footer *footer = &verification->table->footer;
    uint64_t end = verification->read.begin;

    for (int i = 0; i <= REGIONS; i++) {
        uint8_t gap[TABLE_REGION_ALIGN];
        uint64_t size = table_region_begin(end) - end;
        size_t got;
        enum err err = vfs_read(verification->window.file, end, gap, size, &got);
        if (!err && (got < size || !bytes_are_zero(gap, size))) {
            err = ERR_CORRUPT;
        }
        if (err) {
            struct block_range all = {.separator = bytes_of(NULL, 0)};
            report(verification, err, end, all,
                   block_fault_text(err == ERR_IO ? BLOCK_UNREADABLE : BLOCK_BAD_GAP));
        }
        end = i < REGIONS ? footer->regions[i].offset + footer->regions[i].size_bytes : 0;
    }
    return ERR_OK;
}

static void verify_sums(struct verification *verification)
{
    const struct table_info *found = &verification->found;
    const struct table_info *said = &verification->table->info;
    struct block_range all = {.separator = bytes_of(NULL, 0)};

    if (verification->result == ERR_OK &&
        (found->records != said->records || found->markers != said->markers ||
         found->min_seq != said->min_seq || found->max_seq != said->max_seq ||
         found->data_bytes != said->data_bytes ||
         !bytes_equal(table_key_bytes(&verification->last), table_key_bytes(&said->largest)))) {
        report(verification, ERR_CORRUPT,
               verification->table->footer.regions[REGION_PROPERTIES].offset, all,
               block_fault_text(BLOCK_BAD_PROPERTIES));
    }
}

static enum err verify_all(struct verification *verification)
{
    enum err err = verify_blocks(verification);
    if (!err) {
        err = verify_gaps(verification);
    }
    if (!err) {
        verify_sums(verification);
        err = verification->result;
    }
    return err;
}

enum err table_verify(struct vfs_dir *dir, struct table *table, table_bad_fn *bad, void *arg,
                      struct err_detail *detail)
{
    struct verification *verification = calloc(1, sizeof *verification);
    struct err_detail open_detail = {.text = ""};
    struct table *fresh;

    if (!verification) {
        return ERR_NO_MEMORY;
    }
    verification->bad = bad;
    verification->arg = arg;
    verification->detail = detail;
    /* Opening it anew verifies all but the records. */
    enum err err = table_open(dir, 0, table->info.number, &table->info, &fresh, &open_detail);
    if (err) {
        err_detail_set(detail, "%s", open_detail.text);
        if (bad && err != ERR_NO_MEMORY) {
            bad(arg, 0, bytes_of(NULL, 0), bytes_of(NULL, 0), open_detail.text);
        }
        goto out;
    }
    verification->table = fresh;
    err = open_window(dir, fresh, WINDOW_KEEP, &verification->window);
    if (!err) {
        err = verify_all(verification);
        table_window_close(&verification->window);
    }
    if (table_release(fresh)) {
        table_free(fresh);
    }
out:
    free(verification);
    return err;
}
