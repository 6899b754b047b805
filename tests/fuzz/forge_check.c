/* forge_check.c - what is asked of files made of hostile bytes, whatever they are. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/rcu.h"
#include "store/lsm/check.h"
#include "store/lsm/engine.h"
#include "store/store.h"
#include "tests/fuzz/forge.h"
#include "tests/support/alloc.h"

void forge_assert_named(enum err err, const struct err_detail *detail)
{
    char name[FILES_NAME_BYTES] = "";
    uint64_t offset;
    enum file_kind kind;
    uint64_t number;

    assert(err == ERR_CORRUPT || err == ERR_FORMAT);
    const char *sentence = check_take_place(detail->text, name, &offset);
    assert(sentence != detail->text && sentence[0] != '\0');
    assert(strcmp(name, FILES_MANIFEST) == 0 || files_parse_name(name, &kind, &number));
}

void forge_touch(struct bytes bytes)
{
    static volatile uint8_t sink;
    const uint8_t *at = bytes.data;
    uint8_t sum = 0;

    for (size_t i = 0; i < bytes.size; i++) {
        sum ^= at[i];
    }
    sink = sum;
    (void)sink;
}

/* FORMAT.md, "Metadata", once more. */
static void assert_metadata(const uint8_t *at, size_t size)
{
    enum { ENTRY_BYTES = 4, DATE_TAG = 1, DATE_BYTES = 8, LAST_TEXT_TAG = 4 };
    uint8_t before = 0;

    while (size > 0) {
        assert(size >= ENTRY_BYTES && at[0] > before && at[1] == 0);
        size_t bytes = load_u16(at + 2);
        before = at[0];
        assert(bytes <= size - ENTRY_BYTES);
        assert(before != DATE_TAG || bytes == DATE_BYTES);
        assert(before > LAST_TEXT_TAG || bytes <= STORE_TEXT_MAX_BYTES);
        at += ENTRY_BYTES + bytes;
        size -= ENTRY_BYTES + bytes;
    }
}

/* A record of nothing but what this version writes has the same bytes once it is made again. */
static void assert_same_when_made(const struct record *record, const struct record_meta *meta)
{
    if (record_meta_size(meta) != record->meta_size || record->hints != 0) {
        return;
    }
    struct record *again = test_alloc(record_size(record));
    void *value = record_init(again, (enum record_kind)record->kind, record_key(record), meta,
                              record->value_size);

    memcpy(value, record_value(record).data, record->value_size);
    record_seal(again, record_payload_checksum(again), record->seq, record->flags);
    assert(memcmp(again, record, record_size(record)) == 0);
    free(again);
}

void forge_assert_record(const struct record *record)
{
    struct record_meta meta;
    uint64_t size;

    assert(record_check_shape(record, record_size(record), &size) == ERR_OK);
    assert(record_verify(record) == ERR_OK);
    assert(record->kind == RECORD_PUT || record_value(record).size == 0);
    forge_touch(record_key(record));
    forge_touch(record_value(record));
    assert_metadata(record->payload + record->key_size, record->meta_size);
    record_meta_get(record, &meta);
    forge_touch(meta.content_type);
    forge_touch(meta.content_encoding);
    forge_touch(meta.cache_control);
    assert_same_when_made(record, &meta);
}

/* --- Dump and check ----------------------------------------------------------------------------
 */

struct shown {
    uint64_t records, size_bytes, frame_records;
    bool damaged;
};

static void show_manifest(void *arg, const struct manifest *manifest)
{
    const struct shown *shown = arg;

    assert(shown->damaged || (manifest->epoch != 0 && manifest->store_id != 0));
}

static void show_table(void *arg, const struct table_info *info)
{
    (void)arg;
    assert(table_info_is_plausible(info));
}

static void show_segment(void *arg, uint64_t number, uint64_t size_bytes)
{
    struct shown *shown = arg;

    (void)number;
    shown->size_bytes = size_bytes;
}

static void show_frame(void *arg, uint64_t offset, const struct frame_header *frame)
{
    struct shown *shown = arg;

    assert(offset + WAL_FRAME_HEADER_BYTES + frame->records_bytes <= shown->size_bytes);
    shown->frame_records += frame->count;
}

static void show_record(void *arg, const struct record *record)
{
    struct shown *shown = arg;

    forge_assert_record(record);
    shown->records++;
}

static void show_damage(void *arg, uint64_t offset, const char *text)
{
    struct shown *shown = arg;

    (void)offset;
    assert(text[0] != '\0');
    shown->damaged = true;
}

uint64_t forge_dump(const struct vfs *vfs, const char *path, bool *ret_damaged)
{
    struct shown shown = {.records = 0};
    struct dump_visitor visitor = {
        .manifest = show_manifest,
        .table = show_table,
        .segment = show_segment,
        .frame = show_frame,
        .record = show_record,
        .damage = show_damage,
        .arg = &shown,
    };
    struct err_detail detail = {.text = ""};
    enum err err = dump_file(vfs, path, &visitor, &detail);

    assert(err == ERR_OK || err == ERR_FORMAT);
    assert(err == ERR_OK || detail.text[0] != '\0');
    assert(shown.frame_records == 0 || shown.frame_records == shown.records || err);
    *ret_damaged = shown.damaged || err;
    return shown.records;
}

static void hear_finding(void *arg, const struct check_finding *finding)
{
    (void)arg;
    assert(finding->file[0] != '\0' && finding->text[0] != '\0');
    forge_touch(finding->first_key);
    forge_touch(finding->end_key);
}

uint64_t forge_check(const struct vfs *vfs, const char *path)
{
    struct check_summary summary;
    struct err_detail detail = {.text = ""};
    enum err err = check_dir(vfs, path, hear_finding, NULL, &summary, &detail);

    assert(err == ERR_OK);
    return summary.problems;
}

uint64_t forge_check_sound(const struct vfs *vfs, const char *path)
{
    struct check_summary summary;
    struct err_detail detail = {.text = ""};
    enum err err = check_dir(vfs, path, hear_finding, NULL, &summary, &detail);

    assert(err == ERR_OK && summary.problems == 0 && summary.notes == 0);
    return summary.table_records;
}

/* --- The whole store ---------------------------------------------------------------------------
 */

/* A scan, and lookups of all that it shows. */
struct reading {
    struct store *store;
    struct bytes before; /* the key before, on the heap */
    uint64_t entries;
    const struct store_entry *expected;
};

static void look_up_done(void *arg, enum err err, const struct store_entry *entry)
{
    struct reading *reading = arg;
    const struct store_entry *expected = reading->expected;

    assert(err == ERR_OK && entry != NULL);
    assert(store_version_equal(entry->version, expected->version));
    assert(bytes_equal(entry->value, expected->value));
    struct store_entry copy = *entry;
    store_entry_release(&copy);
}

static bool scan_entry(void *arg, const struct store_entry *entry)
{
    struct reading *reading = arg;
    void *key = test_alloc(entry->key.size);

    assert(bytes_compare(reading->before, entry->key) < 0);
    memcpy(key, entry->key.data, entry->key.size);
    free((void *)(uintptr_t)reading->before.data);
    reading->before = bytes_of(key, entry->key.size);
    reading->entries++;
    reading->expected = entry;
    store_get(reading->store, entry->key, look_up_done, reading);
    return true;
}

static void scan_done(void *arg, enum err err, bool at_end)
{
    (void)arg;
    assert(err == ERR_OK && at_end);
}

static uint64_t read_all(struct store *store)
{
    struct reading reading = {.store = store};
    struct store_range all = {.reverse = false};
    struct store_scan *scan;
    enum err err = store_scan_new(store, &all, &scan);

    assert(err == ERR_OK);
    store_scan_run(scan, scan_entry, scan_done, &reading);
    store_scan_free(scan);
    free((void *)(uintptr_t)reading.before.data);
    return reading.entries;
}

static void hear_event(void *arg, const struct store_event *event)
{
    (void)arg;
    assert(event->text[0] != '\0');
}

static enum err open_once(const struct vfs *vfs, const char *path, uint64_t *ret_entries,
                          struct err_detail *detail)
{
    struct store_options options = store_options_default();
    struct store *store;

    options.dir = path;
    options.vfs = vfs;
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = 4096;
    options.max_inflight_bytes = UINT64_C(1) << 17;
    options.on_event = hear_event;
    options.manual = true;
    rcu_door_set_manual(true);
    enum err err = store_open(&options, &store, detail);
    if (!err) {
        *ret_entries = read_all(store);
        store_close(store);
    }
    while (rcu_door_reclaim()) {
    }
    return err;
}

bool forge_open_store(const struct vfs *vfs, const char *path)
{
    struct err_detail detail = {.text = ""};
    uint64_t entries;
    uint64_t again;
    enum err err = open_once(vfs, path, &entries, &detail);

    if (err) {
        forge_assert_named(err, &detail);
        return false;
    }
    assert(forge_check(vfs, path) == 0);
    err = open_once(vfs, path, &again, &detail);
    assert(err == ERR_OK && again == entries);
    return true;
}
