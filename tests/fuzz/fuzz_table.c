/*
 * A table, as any bytes, with checksums, ids, sizes, tags, filter, separators and sums made right
 * (forge.h, fuzz_table_mend.c). Opened, walked in both directions, streamed, looked into, verified,
 * shown, checked, salvaged. Whatever is damaged: keys come in order, a key's record has that key,
 * and nothing lies outside of the file. Where verifying finds no damage, no reading does either.
 *
 * Settings: target[0] bit 0 also opens a store that has the table; bit 1 salvages it under another
 * name.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/manifest.h"
#include "store/lsm/table.h"
#include "store/lsm/table_format.h"
#include "tests/fuzz/forge.h"
#include "tests/fuzz/fuzz_table_mend.h"
#include "tests/support/vfs_mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DIRECTORY "d"
#define NAME      "0000000000000001.table"
#define OLDER     "0000000000000002.table"
#define ELSEWHERE "0000000000000003.table"

enum { OPEN_STORE = 1, OTHER_NAME = 2 };

/* A table that could be opened. */
struct subject {
    struct vfs_mem *fs;
    struct vfs_dir *dir;
    struct table *table;
    bool intact; /* table_verify() found nothing */
};

/* Only what is damaged can fail. */
static void assert_excused(const struct subject *subject, enum err err)
{
    assert(err == ERR_OK || (err == ERR_CORRUPT && !subject->intact));
}

static void assert_in_map(const struct subject *subject, const struct record *record)
{
    struct bytes map = table_map(subject->table);
    const uint8_t *begin = map.data;
    const uint8_t *at = (const uint8_t *)record;

    assert(at >= begin && at < begin + map.size);
    assert(record_size(record) <= (uint64_t)(begin + map.size - at));
    forge_assert_record(record);
}

/* --- Lookups -----------------------------------------------------------------------------------
 */

static void look_up(const struct subject *subject, struct bytes key, const struct record *expected)
{
    const struct record *found = NULL, *at_once = NULL;
    enum err err = table_get(subject->table, key, table_hash(key), TABLE_WHOLE, &found);
    enum err early = table_get(subject->table, key, table_hash(key), TABLE_AT_ONCE, &at_once);

    assert_excused(subject, err);
    assert_excused(subject, early);
    assert(early || err || found == at_once);
    if (found) {
        assert(bytes_equal(record_key(found), key));
        assert_in_map(subject, found);
    }
    assert(err || found == expected || (!found && !subject->intact));
}

/* Before anything was verified, with all of the file on the disk alone. */
static void look_up_cold(const struct subject *subject, struct bytes key)
{
    const struct record *found = NULL;
    vfs_mem_evict(subject->fs);
    enum err err = table_get(subject->table, key, table_hash(key), TABLE_AT_ONCE, &found);
    assert(err == ERR_BUSY || !found);
    err = table_get(subject->table, key, table_hash(key), TABLE_HEAD, &found);
    assert(err == ERR_OK || err == ERR_CORRUPT);
    if (found) {
        err = table_populate(subject->table, record_value(found));
        assert(err == ERR_OK);
    }
}

/* The record is found, its neighbours are its neighbours, and a key right behind it isn't there. */
static void look_around(const struct subject *subject, const struct record *before,
                        const struct record *record)
{
    uint8_t absent[RECORD_KEY_MAX_BYTES + 1] = {0};
    struct bytes key = record_key(record);
    struct table_iter iter;
    enum err err;

    look_up(subject, key, record);
    memcpy(absent, key.data, key.size);
    const struct record *found = NULL;
    struct bytes behind = bytes_of(absent, key.size + 1);
    err = table_get(subject->table, behind, table_hash(behind), TABLE_HEAD, &found);
    assert_excused(subject, err);
    assert(err || !found || bytes_equal(record_key(found), behind));

    err = table_iter_seek(&iter, subject->table, key, TABLE_HEAD);
    assert_excused(subject, err);
    assert(err || iter.record == record);
    err = table_iter_seek_before(&iter, subject->table, key, TABLE_HEAD);
    assert_excused(subject, err);
    assert(err || iter.record == before);
    err = table_iter_seek_before(&iter, subject->table, behind, TABLE_HEAD);
    assert_excused(subject, err);
    assert(err || iter.record == record);
}

/* Keys before, between and behind those of the table. */
static void look_far(const struct subject *subject)
{
    static const uint8_t low[] = {0x00};
    static const uint8_t high[16] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
                                     0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    const struct table_key *smallest = &table_info(subject->table)->smallest;
    struct bytes keys[] = {
        bytes_of(low, sizeof low),
        bytes_of(high, sizeof high),
        bytes_of(smallest->data, 1),
    };

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const struct record *found = NULL;
        struct table_iter iter;
        enum err err = table_get(subject->table, keys[i], table_hash(keys[i]), TABLE_WHOLE, &found);
        assert_excused(subject, err);
        assert(err || !found || bytes_equal(record_key(found), keys[i]));
        err = table_iter_seek(&iter, subject->table, keys[i], TABLE_WHOLE);
        assert_excused(subject, err);
        assert(err || !iter.record || bytes_compare(record_key(iter.record), keys[i]) >= 0);
        err = table_iter_seek_before(&iter, subject->table, keys[i], TABLE_WHOLE);
        assert_excused(subject, err);
        assert(err || !iter.record || bytes_compare(record_key(iter.record), keys[i]) < 0);
    }
}

static void verify_parts(const struct subject *subject, const struct record *record)
{
    uint64_t middle = record->value_size / 2;
    enum err err = table_verify_value(subject->table, record, middle, record->value_size - middle);

    assert_excused(subject, err);
    assert(err ||
           table_value_is_verified(subject->table, record, middle, record->value_size - middle));
}

/* --- Walks -------------------------------------------------------------------------------------
 */

/* Adds a record to sums that began as zeros. */
static void add_up(struct table_info *sums, const struct record *record)
{
    sums->min_seq = sums->records == 0 || record->seq < sums->min_seq ? record->seq : sums->min_seq;
    sums->max_seq = record->seq > sums->max_seq ? record->seq : sums->max_seq;
    sums->records++;
    sums->markers += record->kind == RECORD_DELETE;
    sums->data_bytes += record_size(record);
}

static void assert_sums(const struct subject *subject, const struct table_info *sums)
{
    const struct table_info *info = table_info(subject->table);

    assert(sums->records == info->records && sums->markers == info->markers);
    assert(sums->min_seq == info->min_seq && sums->max_seq == info->max_seq);
    assert(sums->data_bytes == info->data_bytes);
}

static uint64_t walk_forward(const struct subject *subject)
{
    const struct record *before = NULL;
    struct table_info sums = {.records = 0};
    struct table_iter iter;
    enum err err = table_iter_seek(&iter, subject->table, bytes_of(NULL, 0), TABLE_HEAD);

    for (; !err && iter.record; err = table_iter_next(&iter)) {
        assert(!before || bytes_compare(record_key(before), record_key(iter.record)) < 0);
        verify_parts(subject, iter.record);
        look_around(subject, before, iter.record);
        add_up(&sums, iter.record);
        before = iter.record;
    }
    assert_excused(subject, err);
    if (subject->intact) {
        assert_sums(subject, &sums);
    }
    return sums.records;
}

static uint64_t walk_backward(const struct subject *subject)
{
    const struct record *before = NULL;
    struct table_iter iter;
    uint64_t n = 0;
    enum err err = table_iter_seek_before(&iter, subject->table, bytes_of(NULL, 0), TABLE_WHOLE);

    for (; !err && iter.record; err = table_iter_prev(&iter), n++) {
        assert(!before || bytes_compare(record_key(before), record_key(iter.record)) > 0);
        assert_in_map(subject, iter.record);
        before = iter.record;
    }
    assert_excused(subject, err);
    return n;
}

static uint64_t stream(const struct subject *subject)
{
    struct table_key before = {.size = 0};
    struct err_detail detail = {.text = ""};
    const struct record *record;
    struct table_stream *stream;
    uint64_t n = 0;
    enum err err = table_stream_new(subject->dir, subject->table, &stream);

    assert(err == ERR_OK);
    while (!(err = table_stream_next(stream, &record, &detail)) && record) {
        struct bytes key = record_key(record);
        forge_assert_record(record);
        assert(bytes_compare(bytes_of(before.data, before.size), key) < 0);
        memcpy(before.data, key.data, key.size);
        before.size = (uint16_t)key.size;
        n++;
    }
    assert_excused(subject, err);
    if (err) {
        forge_assert_named(err, &detail);
    }
    table_stream_free(stream);
    return n;
}

/* --- The table as a whole ----------------------------------------------------------------------
 */

static void hear_bad(void *arg, uint64_t offset, struct bytes first_key, struct bytes end_key,
                     const char *text)
{
    (void)offset;
    assert(text[0] != '\0');
    forge_touch(first_key);
    forge_touch(end_key);
    ++*(uint64_t *)arg;
}

static void verify(struct subject *subject)
{
    struct err_detail detail = {.text = ""};
    uint64_t places = 0;
    enum err err = table_verify(subject->dir, subject->table, hear_bad, &places, &detail);

    subject->intact = err == ERR_OK;
    assert((places == 0) == subject->intact);
    if (err) {
        forge_assert_named(err, &detail);
    }
}

/* Opening believes the manifest no more than the table. */
static void open_as_another(const struct subject *subject)
{
    struct table_info info = *table_info(subject->table);
    struct err_detail detail = {.text = ""};
    struct table *table;

    info.records++;
    enum err err = table_open(subject->dir, 0, info.number, &info, &table, &detail);
    assert(err == ERR_CORRUPT);
    forge_assert_named(err, &detail);
}

/* Of tables 1 and, perhaps, 2. */
static void put_manifest(const struct subject *subject, struct manifest_table tables[],
                         size_t n_tables)
{
    struct manifest manifest = {
        .store_id = FORGE_STORE_ID,
        .epoch = 1,
        .number = 1,
        .next_file = n_tables + 1,
        .tables = tables,
        .n_tables = n_tables,
    };
    enum manifest_stage stage;

    for (size_t i = 0; i < n_tables; i++) {
        uint64_t seq = tables[i].info.max_seq;
        manifest.covered_seq = seq > manifest.covered_seq ? seq : manifest.covered_seq;
    }
    enum err err = manifest_store(subject->dir, &manifest, &stage);
    assert(err == ERR_OK);
}

/* What a manifest may say of a table that can't be opened. */
static struct table_info any_info(const uint8_t *file, size_t size)
{
    struct file_header header = {.file_id = 0};

    memcpy(&header, file, size < sizeof header ? size : sizeof header);
    return (struct table_info){
        .number = 1,
        .file_id = header.file_id == 0 ? 1 : header.file_id,
        .size_bytes = size < TABLE_DATA_OFFSET ? TABLE_DATA_OFFSET : size,
        .records = 1,
        .min_seq = 1,
        .max_seq = RECORD_SEQ_MAX / 2,
        .smallest = {.size = 1, .data = {0x00}},
        .largest = {.size = 2, .data = {0xFF, 0xFF}},
    };
}

/* An intact table below ours, of which a damaged place of ours may hide some. */
static struct table_info put_older(const struct subject *subject)
{
    static const char *const keys[] = {"a", "k00005", "k1", "zz"};
    struct table_writer *writer;
    struct table_info info;
    enum err err = table_writer_new(subject->dir, 2, FORGE_STORE_ID, 2, &writer);

    assert(err == ERR_OK);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        uint64_t space[16];
        struct record *record = (struct record *)space;
        record_init(record, RECORD_PUT, bytes_of_text(keys[i]), NULL, 0);
        record_seal(record, record_payload_checksum(record), i + 1, 0);
        err = table_writer_add(writer, record);
        assert(err == ERR_OK);
    }
    err = table_writer_finish(writer, &info);
    assert(err == ERR_OK);
    table_writer_free(writer);
    return info;
}

static void salvage_above_older(const struct vfs *vfs, const struct subject *subject,
                                const struct table_info *info, bool other_name)
{
    if (info->max_seq > RECORD_SEQ_MAX) {
        return; /* no manifest can say so */
    }
    struct manifest_table tables[] = {{.level = 1, .info = *info},
                                      {.level = 2, .info = put_older(subject)}};
    put_manifest(subject, tables, sizeof tables / sizeof tables[0]);
    enum err err = other_name ? vfs_rename(subject->dir, NAME, ELSEWHERE) : ERR_OK;
    assert(err == ERR_OK);
    forge_salvage(vfs, DIRECTORY, false, true, false);
    err = other_name ? vfs_rename(subject->dir, ELSEWHERE, NAME) : ERR_OK;
    assert(err == ERR_OK);
    err = vfs_unlink(subject->dir, OLDER);
    assert(err == ERR_OK);
}

/* Whether the header says that it is a file of our store, which only opening with an id asks. */
static bool is_ours(const struct subject *subject)
{
    struct file_header header;

    memcpy(&header, table_map(subject->table).data, sizeof header);
    return header.store_id == FORGE_STORE_ID;
}

static void read_table(struct subject *subject)
{
    struct err_detail said;
    const struct table_key *largest = &table_info(subject->table)->largest;
    look_up_cold(subject, bytes_of(largest->data, largest->size));
    table_error_text(subject->table, said.text, sizeof said.text);
    verify(subject);
    uint64_t records = table_info(subject->table)->records;
    uint64_t forward = walk_forward(subject);
    uint64_t backward = walk_backward(subject);
    uint64_t streamed = stream(subject);
    look_far(subject);
    assert(!subject->intact || (forward == records && backward == records && streamed == records));
    open_as_another(subject);
}

/* A store that has the table, if its numbers leave room for others. */
static void check_store(const struct vfs *vfs, const struct subject *subject, bool open)
{
    if (table_info(subject->table)->max_seq > RECORD_SEQ_MAX / 2) {
        return;
    }
    struct manifest_table of = {.level = 1, .info = *table_info(subject->table)};
    put_manifest(subject, &of, 1);
    uint64_t problems = forge_check(vfs, DIRECTORY);
    assert((problems == 0) == (subject->intact && is_ours(subject)));
    forge_salvage(vfs, DIRECTORY, problems == 0, true, open);
    if (problems == 0 && open) {
        bool opened = forge_open_store(vfs, DIRECTORY);
        assert(opened);
    }
}

static void check(struct vfs_mem *fs, struct forged *forged)
{
    const struct vfs *vfs = vfs_mem_vfs(fs);
    struct subject subject = {.fs = fs};
    struct err_detail detail = {.text = ""};
    bool damaged;
    size_t size;
    enum err err = vfs_dir_open(vfs, DIRECTORY, true, &subject.dir);
    uint8_t *file = forge_file(forged, forged->data, forged->size, &size);

    assert(err == ERR_OK);
    mend_table(forged, file, size);
    vfs_mem_put(fs, NAME, file, size);
    struct table_info any = any_info(file, size);
    bool other_name = forged->settings.target[0] & OTHER_NAME;
    free(file);
    (void)forge_dump(vfs, DIRECTORY "/" NAME, &damaged);
    err = table_open(subject.dir, 0, 1, NULL, &subject.table, &detail);
    if (err) {
        forge_assert_named(err, &detail);
        assert(damaged);
        salvage_above_older(vfs, &subject, &any, other_name);
    } else {
        read_table(&subject);
        salvage_above_older(vfs, &subject, table_info(subject.table), other_name);
        assert(!damaged || !subject.intact);
        check_store(vfs, &subject, forged->settings.target[0] & OPEN_STORE);
        table_release(subject.table);
        table_free(subject.table);
    }
    vfs_dir_close(subject.dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct forged forged;

    if (!forged_init(&forged, data, size)) {
        return 0;
    }
    struct vfs_mem *fs = vfs_mem_new(1);
    check(fs, &forged);
    vfs_mem_free(fs);
    forged_release(&forged);
    return 0;
}
