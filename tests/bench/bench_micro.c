/*
 * bench_micro PIECE: one hot piece of the store, alone, a fixed number of times, in one thread, for
 * tests/bench/micro to count its instructions. Prints the number of operations.
 *
 *   --list    prints the names of all pieces
 *   --build   prints what the counts depend on: the compiler, and how it was used
 *
 * Keys have 16 bytes, values 100 (items.h), in an order that looks random. Only what counted()
 * calls is counted. What has threads elsewhere is driven by hand (store_options.manual), and syncs
 * are left out: the disk isn't what is measured.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/rcu.h"
#include "store/lsm/engine.h"
#include "store/lsm/filter.h"
#include "store/lsm/memtable.h"
#include "store/lsm/table.h"
#include "tests/bench/items.h"
#include "tests/bench/measure.h"

enum { ITEMS = 20000, VALUE_BYTES = 100, GROUP = 16 };

static const char *dir;
static char (*keys)[ITEM_KEY_BYTES]; /* of items that are there: even numbers, shuffled */
static uint64_t found; /* what was found or done: keeps the compiler from leaving it out */

static void ok(enum err err, const char *what)
{
    measure_check(err == ERR_OK, what, err_text(err));
}

static struct bytes key(size_t i)
{
    return bytes_of(keys[i], ITEM_KEY_BYTES);
}

/* A sealed put of `of`, as a write makes it, at `into`. */
static struct record *encode(void *into, struct bytes of, uint64_t seq)
{
    static char value[VALUE_BYTES];
    const struct record_meta meta = {.modified_ms = 1};
    memcpy(record_init(into, RECORD_PUT, of, &meta, VALUE_BYTES), value, VALUE_BYTES);
    record_seal(into, record_payload_checksum(into), seq, RECORD_LAST_OF_BATCH);
    return into;
}

static uint64_t encoded_bytes(void)
{
    const struct record_meta meta = {.modified_ms = 1};
    return record_size_for(ITEM_KEY_BYTES, record_meta_size(&meta), VALUE_BYTES);
}

/* --- Records ---------------------------------------------------------------------------------- */

static void encode_all(size_t n)
{
    _Alignas(8) static uint8_t into[512];
    for (size_t i = 0; i < n; i++) {
        found += encode(into, key(i), i + 1)->checksum != 0;
    }
}

/* --- The memtable ----------------------------------------------------------------------------- */

static struct memtable *memtable;
static struct node *nodes[ITEMS];

static void make_nodes(void)
{
    struct arena *arena;
    ok(arena_new(&arena), "arena");
    ok(memtable_new(1, ITEMS * 256, &memtable), "memtable");
    for (size_t i = 0; i < ITEMS; i++) {
        ok(arena_node(arena, encoded_bytes(), &nodes[i]), "node");
        encode(nodes[i]->record, key(i), i + 1);
    }
}

static void insert_all(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct memtable_position position;
        ok(memtable_adopt(memtable, nodes[i]), "adopt");
        memtable_find_position(memtable, record_key(nodes[i]->record), &position);
        memtable_insert(memtable, nodes[i], &position);
        found++;
    }
}

static void fill_memtable(void)
{
    make_nodes();
    insert_all(ITEMS);
    found = 0;
}

static void get_from_memtable(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        found += memtable_get(memtable, key(i), RECORD_SEQ_MAX) != NULL;
    }
}

static void seek_in_memtable(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        found += memtable_seek(memtable, key(i), RECORD_SEQ_MAX) != NULL;
    }
}

/* --- The filter, with keys that are there and as many that aren't -------------------------------
 */

static uint8_t *filter;
static uint64_t filter_bytes;

static void make_filter(void)
{
    filter_bytes = filter_size_for(ITEMS / 2);
    filter = aligned_alloc(FILTER_LINE_BYTES, filter_bytes);
    measure_check(filter != NULL, "filter", "no memory");
    memset(filter, 0, filter_bytes);
    for (size_t i = 0; i < ITEMS; i += 2) {
        filter_add(filter, filter_bytes, table_hash(key(i)));
    }
}

static void probe_filter(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool yes = filter_may_contain(filter, filter_bytes, table_hash(key(i)));
        found += yes || i % 2 == 1;
    }
}

/* --- A table ---------------------------------------------------------------------------------- */

static struct table *table;

static void get_from_table(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct record *record;
        ok(table_get(table, key(i), table_hash(key(i)), TABLE_WHOLE, &record), "table");
        found += record != NULL;
    }
}

static void make_table(void)
{
    _Alignas(8) static uint8_t into[512];
    struct vfs_dir *files;
    struct table_writer *writer;
    struct table_info info;
    struct err_detail why;
    char text[ITEM_KEY_BYTES];
    ok(vfs_dir_open(vfs_posix(), dir, false, &files), "directory");
    ok(table_writer_new(files, 1, 1, 1, &writer), "table");
    for (uint64_t i = 0; i < ITEMS; i++) {
        ok(table_writer_add(writer, encode(into, item_key(2 * i, text), i + 1)), "table");
    }
    ok(table_writer_finish(writer, &info), "table");
    table_writer_free(writer);
    ok(table_open(files, 1, 1, &info, &table, &why), "table");
    get_from_table(ITEMS); /* so that every block was verified */
    found = 0;
}

/* --- The store, without threads --------------------------------------------------------------- */

static struct store *store;

static enum err no_sync(struct vfs_file *file)
{
    (void)file;
    return ERR_OK;
}

static void open_store(void)
{
    static struct vfs vfs;
    struct store_options options = store_options_default();
    struct err_detail why;
    vfs = *vfs_posix();
    vfs.sync = no_sync;
    options.dir = dir;
    options.vfs = &vfs;
    options.manual = true;
    rcu_door_set_manual(true);
    measure_check(store_open(&options, &store, &why) == ERR_OK, "store", why.text);
}

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    ok(err, "admission");
    *(struct store_write **)arg = write;
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    (void)arg;
    (void)written;
    ok(err, "write");
    found++;
}

static void put(size_t i)
{
    struct store_write_size size = {.ops = 1, .bytes = ITEM_KEY_BYTES + VALUE_BYTES};
    struct store_put put = {.key = key(i), .value_bytes = VALUE_BYTES};
    struct store_write *write = NULL;
    void *into;
    store_write_new(store, &size, on_ready, &write);
    measure_check(write != NULL, "admission", "has to wait");
    ok(store_write_put(write, &put, &into), "put");
    memset(into, 'v', VALUE_BYTES);
    store_write_commit(write, on_written, NULL);
}

static void put_all(size_t n, size_t a_frame)
{
    for (size_t i = 0; i < n; i++) {
        put(i);
        if ((i + 1) % a_frame == 0) {
            while (engine_log_step(store)) {
            }
        }
    }
}

static void put_alone(size_t n)
{
    put_all(n, 1);
}

static void put_in_groups(size_t n)
{
    put_all(n, GROUP);
}

static void fill_store(void)
{
    open_store();
    put_in_groups(ITEMS);
    found = 0;
}

static void on_flushed(void *arg, enum err err)
{
    ok(err, "flush");
    *(bool *)arg = true;
}

static void flush(void)
{
    bool done = false;
    store_flush(store, on_flushed, &done);
    while (!done) {
        engine_log_step(store);
        engine_flush_step(store);
        engine_reclaim_step(store);
    }
}

static void on_get(void *arg, enum err err, const struct store_entry *entry)
{
    struct store_entry mine;
    (void)arg;
    ok(err, "get");
    measure_check(entry != NULL, "get", "an item is missing");
    mine = *entry;
    store_entry_release(&mine);
    found++;
}

static void get_all(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        store_get(store, key(i), on_get, NULL);
    }
}

static void fill_store_and_flush(void)
{
    fill_store();
    flush();
    get_all(ITEMS); /* so that every block was verified */
    found = 0;
}

static bool on_entry(void *arg, const struct store_entry *entry)
{
    (void)arg;
    found += entry->value.size == VALUE_BYTES;
    return true;
}

static void on_scanned(void *arg, enum err err, bool at_end)
{
    (void)arg;
    ok(err, "scan");
    measure_check(at_end, "scan", "stopped");
}

static void scan(size_t n)
{
    const struct store_range range = {.keys_only = false};
    struct store_scan *all;
    (void)n; /* all of them */
    ok(store_scan_new(store, &range, &all), "scan");
    store_scan_run(all, on_entry, on_scanned, NULL);
    store_scan_free(all);
}

/* A table, and a memtable that has a newer version of every second item. */
static void fill_two_runs(void)
{
    fill_store_and_flush();
    for (size_t i = 0; i < ITEMS; i += 2) {
        put(i);
    }
    while (engine_log_step(store)) {
    }
    found = 0;
}

/* --- Pieces ----------------------------------------------------------------------------------- */

static void nothing(void)
{
}

static const struct piece {
    const char *name;
    void (*set_up)(void);
    void (*run)(size_t n); /* adds one to `found` for each operation */
} pieces[] = {
    {"record_encode", nothing, encode_all},
    {"memtable_insert", make_nodes, insert_all},
    {"memtable_get", fill_memtable, get_from_memtable},
    {"memtable_seek", fill_memtable, seek_in_memtable},
    {"filter_probe", make_filter, probe_filter},
    {"table_get", make_table, get_from_table},
    {"put_alone", open_store, put_alone},
    {"put_16_a_frame", open_store, put_in_groups},
    {"get_from_memory", fill_store, get_all},
    {"get_from_table", fill_store_and_flush, get_all},
    {"scan_of_two_runs", fill_two_runs, scan},
};

enum { PIECES = sizeof pieces / sizeof pieces[0] };

/* callgrind counts while it is in this function (--toggle-collect). */
__attribute__((noinline)) static void counted(const struct piece *piece)
{
    piece->run(ITEMS);
    __asm__ volatile("" ::: "memory"); /* no jump into it: that wouldn't be inside */
}

static void measure(const struct piece *piece)
{
    dir = measure_dir(NULL);
    keys = calloc(ITEMS, sizeof keys[0]);
    measure_check(keys != NULL, "keys", "no memory");
    for (size_t i = 0; i < ITEMS; i++) {
        item_key(2 * item_shuffled(i, ITEMS), keys[i]);
    }
    piece->set_up();
    counted(piece);
    measure_check(found == ITEMS, piece->name, "did something else");
    printf("%d\n", ITEMS);
}

int main(int argc, char *argv[])
{
    const char *wanted = argc == 2 ? argv[1] : "";
    if (strcmp(wanted, "--build") == 0) {
        puts(BUILD);
        return 0;
    }
    for (size_t i = 0; i < PIECES; i++) {
        if (strcmp(wanted, "--list") == 0) {
            puts(pieces[i].name);
        } else if (strcmp(wanted, pieces[i].name) == 0) {
            measure(&pieces[i]);
            return 0;
        }
    }
    return strcmp(wanted, "--list") == 0 ? 0 : 2;
}
