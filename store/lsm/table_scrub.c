/*
 * table_scrub.c - verifying the bytes of an open table on the disk, a piece at a time.
 *
 * Nothing here relies on the bytes that are verified: where the regions lie and what their
 * checksums are was read from the footer when the table was opened. Index and filter come first,
 * because lookups rely on them most, and because blocks are judged by the index.
 *
 * A piece is a block, a chunk of a long value, or a part of a region. Of a long value only the head
 * of its record is kept, so memory stays below a megabyte whatever is stored.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/crc32c.h"
#include "store/lsm/table_read.h"

#define PIECE_BYTES RECORD_CHUNK_BYTES /* of a region */

enum phase { PHASE_REGIONS, PHASE_FOOTER, PHASE_HEADER, PHASE_BLOCKS, PHASE_DONE };

struct table_scrub {
    struct table *table;
    struct table_window window;
    enum phase phase;
    uint64_t at;       /* of the file, in this phase: what lies before was verified */
    uint64_t verified; /* bytes, in all phases */

    enum table_region_kind region;
    uint32_t crc; /* of the region up to `at` */

    struct table_block_read read; /* the block at hand, in the phase of blocks */
    struct record *head;          /* of a long value that is open; NULL: none is */
    uint64_t chunk;               /* the next one to be verified */

    struct err_detail keys; /* of damage */
};

enum err table_scrub_new(struct vfs_dir *dir, struct table *table, struct table_scrub **ret_scrub)
{
    struct table_scrub *scrub = calloc(1, sizeof *scrub);
    if (!scrub) {
        return ERR_NO_MEMORY;
    }
    enum err err =
        table_window_open(dir, table->name, table->info.size_bytes, WINDOW_DISK, &scrub->window);
    if (err) {
        free(scrub);
        return err;
    }
    scrub->table = table;
    scrub->at = table->footer.regions[REGION_INDEX].offset;
    scrub->read = (struct table_block_read){.window = &scrub->window, .begin = TABLE_DATA_OFFSET};
    *ret_scrub = scrub;
    return ERR_OK;
}

void table_scrub_free(struct table_scrub *scrub)
{
    if (scrub) {
        table_window_close(&scrub->window);
        free(scrub->head);
        free(scrub);
    }
}

uint64_t table_scrub_bytes(const struct table_scrub *scrub)
{
    return scrub->verified;
}

static void pass(struct table_scrub *scrub, uint64_t size)
{
    scrub->at += size;
    scrub->verified += size;
}

/* Says whether the next `size` bytes are good; if so, passes them. */
static enum block_fault judge(struct table_scrub *scrub, uint64_t size, enum block_fault fault)
{
    if (fault == BLOCK_OK) {
        pass(scrub, size);
    }
    return fault;
}

/* Shows the next `size` bytes. A fault is of the file, an error of the reading as a whole. */
static enum err load(struct table_scrub *scrub, uint64_t size, const uint8_t **ret_data,
                     enum block_fault *ret_fault)
{
    enum err err = table_window_load(&scrub->window, scrub->at, size, ret_data);
    if (err == ERR_NO_MEMORY) {
        return err;
    }
    *ret_fault = err == ERR_OK ? BLOCK_OK : err == ERR_CORRUPT ? BLOCK_CUT_OFF : BLOCK_UNREADABLE;
    return ERR_OK;
}

static enum err verify_zeros(struct table_scrub *scrub, uint64_t size, enum block_fault *ret_fault)
{
    const uint8_t *data;
    enum err err = load(scrub, size, &data, ret_fault);
    if (!err && !*ret_fault) {
        *ret_fault = judge(scrub, size, bytes_are_zero(data, size) ? BLOCK_OK : BLOCK_BAD_GAP);
    }
    return err;
}

/* --- Regions, footer, header ------------------------------------------------------------------ */

static enum err verify_region(struct table_scrub *scrub, enum block_fault *ret_fault)
{
    const struct table_footer *footer = &scrub->table->footer;
    const struct table_region *region = &footer->regions[scrub->region];
    uint64_t end = region->offset + region->size_bytes;
    uint64_t size = end - scrub->at < PIECE_BYTES ? end - scrub->at : PIECE_BYTES;
    const uint8_t *data;

    if (scrub->at == region->offset) {
        scrub->crc = crc32c(0, &footer->file_id, sizeof footer->file_id);
    }
    enum err err = load(scrub, size, &data, ret_fault);
    if (err || *ret_fault) {
        return err;
    }
    scrub->crc = crc32c(scrub->crc, data, size);
    pass(scrub, size);
    if (scrub->at < end) {
        return ERR_OK;
    }
    if (scrub->crc != footer->checksums[scrub->region]) {
        *ret_fault = BLOCK_BAD_REGION;
        return ERR_OK;
    }
    err = verify_zeros(scrub, table_region_begin(end) - end, ret_fault);
    if (!err && !*ret_fault && ++scrub->region == REGIONS) {
        scrub->phase = PHASE_FOOTER;
    }
    return err;
}

static enum err verify_footer(struct table_scrub *scrub, enum block_fault *ret_fault)
{
    const struct table_footer *footer = &scrub->table->footer;
    const uint8_t *data;
    enum err err = load(scrub, sizeof *footer, &data, ret_fault);
    if (!err && !*ret_fault) {
        *ret_fault = memcmp(data, footer, sizeof *footer) == 0 ? BLOCK_OK : BLOCK_BAD_FRAME;
        scrub->verified += sizeof *footer;
        scrub->at = 0;
        scrub->phase = PHASE_HEADER;
    }
    return err;
}

static enum err verify_header(struct table_scrub *scrub, enum block_fault *ret_fault)
{
    const struct table_footer *footer = &scrub->table->footer;
    struct file_header header;
    const uint8_t *data;
    enum err err = load(scrub, sizeof header, &data, ret_fault);
    if (err || *ret_fault) {
        return err;
    }
    memcpy(&header, data, sizeof header);
    if (file_header_check(&header, FILE_TABLE, footer->store_id, footer->number, scrub->table->name,
                          NULL) != ERR_OK ||
        header.file_id != footer->file_id) {
        *ret_fault = BLOCK_BAD_FRAME;
        return ERR_OK;
    }
    pass(scrub, sizeof header);
    err = verify_zeros(scrub, TABLE_DATA_OFFSET - sizeof header, ret_fault);
    if (!err && !*ret_fault) {
        scrub->phase = PHASE_BLOCKS;
    }
    return err;
}

/* --- Blocks ----------------------------------------------------------------------------------- */

static void end_block(struct table_scrub *scrub)
{
    scrub->read.begin = table_block_read_end(&scrub->read);
    scrub->read.number++;
}

/* Keeps the record's head, once that is verified: its chunks are verified by it. */
static enum err open_long_value(struct table_scrub *scrub, enum block_fault *ret_fault)
{
    const struct index_entry *entry = &scrub->read.entry;
    uint64_t limit = (uint64_t)entry->size_units * 8 - block_tail_bytes(entry->records);
    const uint8_t *data;
    uint64_t size;

    enum err err = verify_zeros(scrub, entry->offset - scrub->read.begin, ret_fault);
    if (!err && !*ret_fault) {
        err = load(scrub, sizeof(struct record), &data, ret_fault);
    }
    if (err || *ret_fault) {
        return err;
    }
    if (record_check_shape(data, limit, &size) || size != limit) {
        *ret_fault = BLOCK_BAD_SHAPE;
        return ERR_OK;
    }
    uint64_t head_bytes = record_value_offset((const struct record *)data);
    err = load(scrub, head_bytes, &data, ret_fault);
    if (err || *ret_fault) {
        return err;
    }
    scrub->head = malloc(head_bytes);
    if (!scrub->head) {
        return ERR_NO_MEMORY;
    }
    memcpy(scrub->head, data, head_bytes);
    scrub->chunk = 0;
    *ret_fault =
        judge(scrub, head_bytes, record_verify_head(scrub->head) ? BLOCK_BAD_RECORD : BLOCK_OK);
    return ERR_OK;
}

static enum err verify_next_chunk(struct table_scrub *scrub, enum block_fault *ret_fault)
{
    uint64_t size = record_chunk_bytes(scrub->head, scrub->chunk);
    const uint8_t *data;
    enum err err = load(scrub, size, &data, ret_fault);
    if (!err && !*ret_fault) {
        enum err bad = record_verify_chunk(scrub->head, scrub->chunk, data);
        *ret_fault = judge(scrub, size, bad ? BLOCK_BAD_VALUE : BLOCK_OK);
        scrub->chunk++;
    }
    return err;
}

/* Under the guard for the separators' sake, which lie in the map. */
static enum block_fault verify_long_block(struct table *table, void *arg, volatile uint64_t *at)
{
    struct table_block_read *read = arg;
    *at = read->entry.offset;
    return block_verify(read->block, &read->entry, read->range, table->info.file_id);
}

static enum err close_long_value(struct table_scrub *scrub, enum block_fault *ret_fault)
{
    struct table_block_read *read = &scrub->read;
    uint64_t size = block_tail_bytes(read->entry.records);
    const uint8_t *data;
    enum err err = load(scrub, size, &data, ret_fault);
    if (!err && !*ret_fault) {
        read->block = block_of((const uint8_t *)scrub->head, &read->entry);
        read->block.tail = data;
        *ret_fault = judge(scrub, size, table_guarded(scrub->table, verify_long_block, read));
        free(scrub->head);
        scrub->head = NULL;
        end_block(scrub);
    }
    return err;
}

static enum err verify_block(struct table_scrub *scrub, enum block_fault *ret_fault)
{
    struct table_block_read *read = &scrub->read;
    *ret_fault = table_read_entry(scrub->table, read);
    if (*ret_fault) {
        return ERR_OK;
    }
    if ((uint64_t)read->entry.size_units * 8 > TABLE_SHORT_BLOCK_BYTES) {
        return open_long_value(scrub, ret_fault);
    }
    enum err err = table_read_block(scrub->table, read, ret_fault);
    if (!err && !*ret_fault) {
        end_block(scrub);
        pass(scrub, read->begin - scrub->at);
    }
    return err;
}

static enum err verify_in_blocks(struct table_scrub *scrub, enum block_fault *ret_fault)
{
    if (scrub->head) {
        return scrub->chunk < record_chunks(scrub->head) ? verify_next_chunk(scrub, ret_fault)
                                                         : close_long_value(scrub, ret_fault);
    }
    if (scrub->read.number < scrub->table->blocks) {
        return verify_block(scrub, ret_fault);
    }
    scrub->phase = PHASE_DONE;
    return verify_zeros(scrub, scrub->table->footer.regions[REGION_INDEX].offset - scrub->at,
                        ret_fault);
}

/* --- Steps ------------------------------------------------------------------------------------ */

static enum err verify_piece(struct table_scrub *scrub, enum block_fault *ret_fault)
{
    switch (scrub->phase) {
    case PHASE_REGIONS:
        return verify_region(scrub, ret_fault);
    case PHASE_FOOTER:
        return verify_footer(scrub, ret_fault);
    case PHASE_HEADER:
        return verify_header(scrub, ret_fault);
    case PHASE_BLOCKS:
        return verify_in_blocks(scrub, ret_fault);
    case PHASE_DONE:
        break;
    }
    *ret_fault = BLOCK_OK;
    return ERR_OK;
}

/* Shows which keys a block may hold, as the map has them. */
static enum block_fault show_keys(struct table *table, void *arg, volatile uint64_t *at)
{
    struct table_scrub *scrub = arg;
    *at = table->footer.regions[REGION_INDEX].offset;
    table_range_text(table_block_range(table, scrub->read.number), &scrub->keys);
    return BLOCK_OK;
}

static void note_damage(struct table_scrub *scrub, enum block_fault fault,
                        struct table_damage *ret_damage)
{
    struct table *table = scrub->table;
    uint64_t offset = scrub->at;
    bool of_block = scrub->phase == PHASE_BLOCKS && scrub->read.number < table->blocks;

    if (of_block && scrub->read.entry.offset > offset) {
        offset = scrub->read.entry.offset; /* behind a gap */
    }
    if (scrub->phase == PHASE_REGIONS && fault != BLOCK_BAD_GAP) {
        offset = table->footer.regions[scrub->region].offset;
        table_distrust_region(table, scrub->region);
    }
    if (!of_block || table_guarded(table, show_keys, scrub)) {
        err_detail_set(&scrub->keys, "%s", "");
    }
    ret_damage->keys = scrub->keys;
    err_detail_set(&ret_damage->detail, "%s, offset %" PRIu64 ": %s", table->name, offset,
                   block_fault_text(fault));
}

enum err table_scrub_step(struct table_scrub *scrub, uint64_t slice_bytes, bool *ret_done,
                          struct table_damage *ret_damage)
{
    uint64_t end = scrub->verified + slice_bytes;
    while (scrub->phase != PHASE_DONE && scrub->verified < end) {
        enum block_fault fault = BLOCK_OK;
        enum err err = verify_piece(scrub, &fault);
        if (err) {
            return err;
        }
        if (fault) {
            note_damage(scrub, fault, ret_damage);
            return block_fault_err(fault);
        }
    }
    *ret_done = scrub->phase == PHASE_DONE;
    return ERR_OK;
}
