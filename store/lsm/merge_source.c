/* The three kinds of sources, each with its seek and step. */
#include "store/lsm/merge_source.h"

#include <assert.h>
#include <string.h>

#include "store/base/sigbus.h"

static void stand_at(struct source *source, const struct record *record, struct bytes key,
                     struct table *table)
{
    uint64_t prefix = bytes_prefix(key);
    source->item = (struct merge_item){.key = key, .record = record, .table = table};
    source->rank = source->reverse ? ~prefix : prefix;
}

static void stand_at_end(struct source *source)
{
    source->item = (struct merge_item){.record = NULL};
}

/* --- Memtables: nodes are in order of key, then of number descending --- */

static void memtable_stand_at(struct source *source, const struct node *node)
{
    source->node = node;
    if (node) {
        stand_at(source, node->record, record_key(node->record), NULL);
        source->item.node = node;
    } else {
        stand_at_end(source);
    }
}

/* The first node from `node` on that is visible: the newest such version of its key. */
static const struct node *first_visible(const struct node *node, uint64_t max_seq)
{
    while (node && node->record->seq > max_seq) {
        node = memtable_next(node);
    }
    return node;
}

static void memtable_seek_forward(struct source *source, struct bytes key)
{
    const struct node *node = key.size > 0 ? memtable_seek(source->memtable, key, source->max_seq)
                                           : memtable_first(source->memtable);
    memtable_stand_at(source, first_visible(node, source->max_seq));
}

/* The newest visible version of the last key < `bound` that has one. */
static void memtable_seek_before(struct source *source, struct bytes bound)
{
    const struct node *oldest = memtable_before(source->memtable, bound);
    while (oldest && oldest->record->seq > source->max_seq) {
        oldest = memtable_before(source->memtable, record_key(oldest->record));
    }
    if (oldest) {
        oldest = memtable_seek(source->memtable, record_key(oldest->record), source->max_seq);
    }
    memtable_stand_at(source, oldest);
}

static void memtable_step(struct source *source)
{
    struct bytes key = source->item.key;
    if (source->reverse) {
        memtable_seek_before(source, key);
        return;
    }
    const struct node *node = memtable_next(source->node);
    while (node && bytes_equal(record_key(node->record), key)) {
        node = memtable_next(node);
    }
    /* Versions of one key that are all too new are passed over one by one. */
    memtable_stand_at(source, first_visible(node, source->max_seq));
}

/* --- Runs of tables --- */

static struct table *run_table(const struct source *source)
{
    return source->run.tables[source->at];
}

/* The first table whose largest key is ≥ `key`; n_tables if there is none. */
static size_t run_find(const struct merge_run *run, struct bytes key)
{
    size_t low = 0, high = run->n_tables;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct table_key *largest = &table_info(run->tables[middle])->largest;
        if (bytes_compare(bytes_of(largest->data, largest->size), key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Copies the key of a record in a map. Small on purpose: what fails comes back to the condition. */
static enum err __attribute__((noinline))
copy_key(const struct record *record, uint8_t into[RECORD_KEY_MAX_BYTES], uint16_t *ret_size)
{
    struct sigbus_guard guard;
    if (!sigbus_guard_enter(&guard, record, sizeof *record + RECORD_KEY_MAX_BYTES)) {
        return ERR_IO;
    }
    /* It was verified, but the page may have been read anew since. */
    struct bytes key = record_key(record);
    bool fits = key.size <= RECORD_KEY_MAX_BYTES;
    if (fits) {
        memcpy(into, key.data, key.size);
        *ret_size = (uint16_t)key.size;
    }
    sigbus_guard_leave(&guard);
    return fits ? ERR_OK : ERR_CORRUPT;
}

static enum err fail(struct source *source, enum err err, struct err_detail *detail)
{
    struct table *table = run_table(source);
    stand_at_end(source);
    source->item.table = table;
    if (detail) {
        table_error_text(table, detail->text, sizeof detail->text);
    }
    return err;
}

/* After a move of the iterator, which may have left its table: on to the next one. */
static enum err maps_settle(struct source *source, enum err err, struct err_detail *detail)
{
    while (err == ERR_OK && !source->iter.record) {
        if (source->reverse ? source->at == 0 : source->at + 1 == source->run.n_tables) {
            stand_at_end(source);
            return ERR_OK;
        }
        source->at += source->reverse ? (size_t)-1 : 1;
        err = source->reverse ? table_iter_seek_before(&source->iter, run_table(source),
                                                       bytes_of(NULL, 0), TABLE_HEAD)
                              : table_iter_seek(&source->iter, run_table(source), bytes_of(NULL, 0),
                                                TABLE_HEAD);
    }
    if (err != ERR_OK) {
        return fail(source, err, detail);
    }
    uint16_t size;
    source->key_at ^= 1;
    err = copy_key(source->iter.record, source->keys[source->key_at], &size);
    if (err != ERR_OK) {
        return fail(source, err, detail);
    }
    stand_at(source, source->iter.record, bytes_of(source->keys[source->key_at], size),
             run_table(source));
    return ERR_OK;
}

static enum err maps_seek(struct source *source, struct bytes key, struct err_detail *detail)
{
    enum err err;
    if (source->reverse) {
        /* The table that may hold `key` or begins above it has smaller ones too, or those before
         * it have. */
        source->at = key.size > 0 ? run_find(&source->run, key) : source->run.n_tables;
        source->at -= source->at == source->run.n_tables;
        err = table_iter_seek_before(&source->iter, run_table(source), key, TABLE_HEAD);
    } else {
        source->at = key.size > 0 ? run_find(&source->run, key) : 0;
        if (source->at == source->run.n_tables) {
            stand_at_end(source);
            return ERR_OK;
        }
        err = table_iter_seek(&source->iter, run_table(source), key, TABLE_HEAD);
    }
    return maps_settle(source, err, detail);
}

static enum err maps_step(struct source *source, struct err_detail *detail)
{
    enum err err =
        source->reverse ? table_iter_prev(&source->iter) : table_iter_next(&source->iter);
    return maps_settle(source, err, detail);
}

/* The next record of the open stream or of the tables after it. */
static enum err streams_step(struct source *source, struct err_detail *detail)
{
    const struct record *record = NULL;
    enum err err = ERR_OK;
    while (!record) {
        if (source->at == source->run.n_tables) {
            stand_at_end(source);
            return ERR_OK;
        }
        if (!source->stream) {
            err = table_stream_new(source->dir, run_table(source), &source->stream);
            if (err != ERR_OK) {
                return fail(source, err, detail);
            }
        }
        err = table_stream_next(source->stream, &record, detail);
        if (err != ERR_OK) {
            struct table *table = run_table(source);
            stand_at_end(source);
            source->item.table = table;
            return err;
        }
        if (!record) {
            table_stream_free(source->stream);
            source->stream = NULL;
            source->at++;
        }
    }
    source->read_bytes += record_size(record);
    source->key_at ^= 1;
    struct bytes key = record_key(record);
    memcpy(source->keys[source->key_at], key.data, key.size);
    stand_at(source, record, bytes_of(source->keys[source->key_at], key.size), NULL);
    return ERR_OK;
}

/* --- All kinds --- */

enum err source_seek(struct source *source, struct bytes key, struct err_detail *detail)
{
    switch (source->kind) {
    case SOURCE_MEMTABLE:
        if (source->reverse) {
            memtable_seek_before(source, key);
        } else {
            memtable_seek_forward(source, key);
        }
        return ERR_OK;
    case SOURCE_MAPS:
        return maps_seek(source, key, detail);
    case SOURCE_STREAMS:
        assert(key.size == 0 && source->at == 0 && !source->stream);
        return streams_step(source, detail);
    }
    return ERR_INVALID;
}

enum err source_next(struct source *source, struct err_detail *detail)
{
    switch (source->kind) {
    case SOURCE_MEMTABLE:
        memtable_step(source);
        return ERR_OK;
    case SOURCE_MAPS:
        return maps_step(source, detail);
    case SOURCE_STREAMS:
        return streams_step(source, detail);
    }
    return ERR_INVALID;
}

void source_release(struct source *source)
{
    table_stream_free(source->stream);
    source->stream = NULL;
}
