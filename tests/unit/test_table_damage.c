/* Damaged tables: an error, or the right bytes; never wrong ones, and never "absent" wrongly. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/base/crc32c.h"
#include "store/base/sigbus.h"
#include "store/base/vfs.h"
#include "store/lsm/files.h"
#include "store/lsm/table_format.h"
#include "tests/support/check.h"
#include "tests/support/tables.h"
#include "tests/support/temp_dir.h"

#define NAME "0000000000000001.table"

/* --- File operations that fail on request ----------------------------------------------------- */

static struct vfs failing_vfs;
static int64_t fails_at;            /* the call of this number fails, from 0; negative: none */
static uint64_t bad_begin, bad_end; /* a read of these bytes of a file fails */

static bool must_fail(void)
{
    return fails_at >= 0 && fails_at-- == 0;
}

static enum err may_fail_write(struct vfs_file *file, uint64_t offset, const struct iovec *parts,
                               size_t n_parts)
{
    return must_fail() ? ERR_NO_SPACE : vfs_posix()->write(file, offset, parts, n_parts);
}

static enum err may_fail_sync(struct vfs_file *file)
{
    return must_fail() ? ERR_IO : vfs_posix()->sync(file);
}

static enum err may_fail_read(struct vfs_file *file, uint64_t offset, void *into, size_t size,
                              size_t *ret_read)
{
    if (must_fail() || (offset < bad_end && offset + size > bad_begin)) {
        return ERR_IO;
    }
    return vfs_posix()->read(file, offset, into, size, ret_read);
}

static enum err may_fail_map(struct vfs_file *file, size_t size, const void **ret_data)
{
    return must_fail() ? ERR_NO_MEMORY : vfs_posix()->map(file, size, ret_data);
}

/* What is dropped from the cache has to be written first: thousands of times here. */
static enum err no_advice(struct vfs_file *file, uint64_t offset, uint64_t size_bytes,
                          enum vfs_advice advice)
{
    (void)file;
    (void)offset;
    (void)size_bytes;
    (void)advice;
    return ERR_OK;
}

/* --- Fixture ---------------------------------------------------------------------------------- */

struct fixture {
    char path[TEMP_DIR_BYTES];
    struct vfs_dir *dir;
    struct prng prng;
    struct record_set set;
    struct table_info info;
    struct err_detail detail;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    failing_vfs = *vfs_posix();
    failing_vfs.write = may_fail_write;
    failing_vfs.sync = may_fail_sync;
    failing_vfs.read = may_fail_read;
    failing_vfs.map = may_fail_map;
    failing_vfs.advise = no_advice;
    fails_at = -1;
    bad_begin = bad_end = 0;
    sigbus_install(); /* cmocka has taken the signal for itself at the begin of the test */
    temp_dir_make(fixture->path);
    prng_init(&fixture->prng, test_seed());
    assert_ok(vfs_dir_open(&failing_vfs, fixture->path, false, &fixture->dir));
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    record_set_release(&fixture->set);
    vfs_dir_close(fixture->dir);
    temp_dir_remove(fixture->path);
    free(fixture);
    return 0;
}

/* Records k000, k002, …: the odd ones are absent. */
static void add_even_keys(struct fixture *fixture, unsigned n, uint64_t value_bytes)
{
    for (unsigned i = 0; i < n; i++) {
        char key[16];
        int size = snprintf(key, sizeof key, "k%03u", 2 * i);
        if (i % 10 == 9) {
            record_set_add_marker(&fixture->set, bytes_of(key, (size_t)size));
        } else {
            record_set_add(&fixture->set, bytes_of(key, (size_t)size), value_bytes);
        }
    }
}

static void make(struct fixture *fixture)
{
    tables_write(fixture->dir, 1, &fixture->set, &fixture->info);
}

static enum err open_table(struct fixture *fixture, struct table **ret_table)
{
    fixture->detail.text[0] = '\0';
    enum err err =
        table_open(fixture->dir, TABLES_STORE_ID, 1, &fixture->info, ret_table, &fixture->detail);
    if (err && err != ERR_NO_MEMORY) {
        assert_non_null(strstr(fixture->detail.text, NAME));
    }
    return err;
}

static bool is_damage(enum err err)
{
    return err == ERR_CORRUPT || err == ERR_IO;
}

/* --- Never wrong ------------------------------------------------------------------------------ */

/* Looks up every key and its neighbour, which is absent. Returns how many gave an error. */
static size_t check_gets(struct table *table, const struct record_set *set)
{
    size_t errors = 0;

    for (size_t i = 0; i < set->n; i++) {
        uint8_t near[RECORD_KEY_MAX_BYTES + 1];
        const struct record *found = NULL;
        struct bytes key = record_key(set->records[i]);
        enum err err = table_get(table, key, table_hash(key), TABLE_WHOLE, &found);
        if (err) {
            assert_true(is_damage(err));
            errors++;
        } else {
            assert_non_null(found);
            assert_true(records_equal(found, set->records[i]));
        }
        memcpy(near, key.data, key.size);
        near[key.size - 1]++;
        key = bytes_of(near, key.size);
        err = table_get(table, key, table_hash(key), TABLE_WHOLE, &found);
        assert_true(is_damage(err) || (err == ERR_OK && !found));
    }
    return errors;
}

/* Walks forward: a beginning of the records, then the end or an error. */
static bool check_walk(struct table *table, const struct record_set *set)
{
    struct table_iter iter;
    size_t i = 0;

    enum err err = table_iter_seek(&iter, table, bytes_of(NULL, 0), TABLE_WHOLE);
    while (!err && iter.record) {
        assert_true(i < set->n && records_equal(iter.record, set->records[i]));
        i++;
        err = table_iter_next(&iter);
    }
    assert_true(err ? is_damage(err) : i == set->n);
    return err == ERR_OK;
}

/* Streams: likewise. */
static bool check_stream(struct fixture *fixture, struct table *table)
{
    const struct record_set *set = &fixture->set;
    struct table_stream *stream;
    const struct record *record;
    size_t i = 0;

    assert_ok(table_stream_new(fixture->dir, table, &stream));
    enum err err = table_stream_next(stream, &record, &fixture->detail);
    while (!err && record) {
        assert_true(i < set->n && records_equal(record, set->records[i]));
        i++;
        err = table_stream_next(stream, &record, &fixture->detail);
    }
    assert_true(err ? is_damage(err) : i == set->n);
    table_stream_free(stream);
    return err == ERR_OK;
}

/* What reading the damaged table showed. */
struct seen {
    bool at_open;
    bool by_lookups; /* and walks, which agree with them */
    bool by_verify;
};

/* Opens the table and asks for everything: no answer is wrong. Thorough: reads it as files are
 * read, too, which takes twice as long. */
static struct seen read_damaged(struct fixture *fixture, bool thorough)
{
    struct table *table;
    enum err err = ERR_OK;

    if (open_table(fixture, &table)) {
        return (struct seen){.at_open = true};
    }
    bool lookups_err = check_gets(table, &fixture->set) > 0;
    assert_int_equal(check_walk(table, &fixture->set), !lookups_err);
    if (lookups_err) {
        char text[200];
        table_error_text(table, text, sizeof text);
        assert_non_null(strstr(text, NAME ", offset "));
    }
    if (thorough) {
        bool streamed = check_stream(fixture, table);
        assert_false(streamed && lookups_err);
        err = table_verify(fixture->dir, table, NULL, NULL, &fixture->detail);
    }
    if (err) {
        assert_true(is_damage(err));
        assert_non_null(strstr(fixture->detail.text, NAME));
    }
    tables_close(table);
    return (struct seen){.by_lookups = lookups_err, .by_verify = err != ERR_OK};
}

static void assert_damaged(struct fixture *fixture)
{
    struct seen seen = read_damaged(fixture, true);
    assert_true(seen.at_open || (seen.by_lookups && seen.by_verify));
}

static void assert_intact(struct fixture *fixture)
{
    struct seen seen = read_damaged(fixture, true);
    assert_false(seen.at_open || seen.by_lookups || seen.by_verify);
}

/* Whether the bit is of zeros between blocks or regions, which no lookup reads. */
static bool is_gap(const struct table_footer *footer, const struct index_entry *entries, uint64_t n,
                   uint64_t byte)
{
    for (uint64_t i = 0; i < n; i++) {
        if (byte >= entries[i].offset &&
            byte < entries[i].offset + UINT64_C(8) * entries[i].size_units) {
            return false;
        }
    }
    for (int i = 0; i < REGIONS; i++) {
        const struct table_region *region = &footer->regions[i];
        if (byte >= region->offset && byte < region->offset + region->size_bytes) {
            return false;
        }
    }
    return byte >= TABLE_DATA_OFFSET && byte < footer->size_bytes - sizeof *footer;
}

static void write_byte(struct vfs_file *file, uint64_t offset, unsigned byte)
{
    uint8_t data = (uint8_t)byte;
    struct iovec part = {.iov_base = &data, .iov_len = 1};
    assert_ok(vfs_write(file, offset, &part, 1));
}

/* Flips every `step`th bit of [begin, end) in turn. */
static void flip_bits(struct fixture *fixture, uint64_t begin, uint64_t end, uint64_t step)
{
    size_t size;
    uint8_t *data = file_read_all(fixture->dir, NAME, &size);
    struct vfs_file *file;
    struct table_footer footer;
    struct index_header header;

    memcpy(&footer, data + size - sizeof footer, sizeof footer);
    memcpy(&header, data + footer.regions[REGION_INDEX].offset, sizeof header);
    const struct index_entry *entries =
        (const struct index_entry *)(data + footer.regions[REGION_INDEX].offset + sizeof header +
                                     8 * header.blocks);
    assert_ok(vfs_open(fixture->dir, NAME, VFS_WRITE, &file));
    for (uint64_t bit = begin; bit < end && bit < size * 8; bit += step) {
        uint64_t byte = bit / 8;
        write_byte(file, byte, data[byte] ^ 1u << bit % 8);
        bool thorough = bit % 3 == 0;
        struct seen seen = read_damaged(fixture, thorough);
        bool expected = !is_gap(&footer, entries, header.blocks, byte);
        if (!seen.at_open && (seen.by_lookups != expected || seen.by_verify != thorough)) {
            fail_msg("bit %u of byte %u", (unsigned)(bit % 8), (unsigned)byte);
        }
        write_byte(file, byte, data[byte]);
    }
    vfs_close(file);
    free(data);
    assert_intact(fixture);
}

static void no_flipped_bit_of_a_small_table_goes_unnoticed(void **state)
{
    struct fixture *fixture = *state;
    add_even_keys(fixture, 22, 300);
    make(fixture);
    assert_in_range(fixture->info.size_bytes, 12000, 16384);
    flip_bits(fixture, 0, UINT64_MAX, 1);
}

static void no_flipped_bit_of_a_long_value_goes_unnoticed(void **state)
{
    struct fixture *fixture = *state;
    add_even_keys(fixture, 4, 10);
    record_set_add(&fixture->set, bytes_of_text("k0021"), 200000);
    record_set_add(&fixture->set, bytes_of_text("k0041"), 65536);
    make(fixture);
    flip_bits(fixture, 0, UINT64_MAX, 1009);
    /* Around where the long values begin and end. */
    flip_bits(fixture, UINT64_C(8) * 4096, UINT64_C(8) * 8300, 5);
}

/* --- Cut short, mixed up ---------------------------------------------------------------------- */

static void no_shorter_file_is_opened(void **state)
{
    struct fixture *fixture = *state;
    struct table *table;
    size_t size;

    add_even_keys(fixture, 60, 300);
    make(fixture);
    uint8_t *data = file_read_all(fixture->dir, NAME, &size);
    for (size_t cut = 0; cut < size; cut += cut % 4096 < 4032 ? 64 : 1) {
        file_write_all(fixture->dir, NAME, data, cut);
        assert_err(ERR_CORRUPT, open_table(fixture, &table));
        assert_err(ERR_CORRUPT, table_open(fixture->dir, 0, 1, NULL, &table, NULL));
    }
    data[size] = 0;
    file_write_all(fixture->dir, NAME, data, size + 1);
    assert_err(ERR_CORRUPT, open_table(fixture, &table));
    assert_err(ERR_CORRUPT, table_open(fixture->dir, 0, 1, NULL, &table, NULL));
    free(data);
}

static void a_missing_file_is_not_found(void **state)
{
    struct fixture *fixture = *state;
    struct table *table;
    assert_err(ERR_NOT_FOUND, open_table(fixture, &table));
}

static void blocks_that_changed_places_are_noticed(void **state)
{
    struct fixture *fixture = *state;
    size_t size;

    add_even_keys(fixture, 200, 100);
    make(fixture);
    uint8_t *data = file_read_all(fixture->dir, NAME, &size);
    uint8_t *swapped = malloc(size);
    assert_non_null(swapped);
    for (uint64_t a = 4096; a < 4 * 4096; a += 4096) {
        memcpy(swapped, data, size);
        memcpy(swapped + a, data + a + 4096, 4096);
        memcpy(swapped + a + 4096, data + a, 4096);
        file_write_all(fixture->dir, NAME, swapped, size);
        assert_damaged(fixture);
        /* A lost write: the block before once more. */
        memcpy(swapped + a, data + a, 4096);
        file_write_all(fixture->dir, NAME, swapped, size);
        assert_damaged(fixture);
    }
    free(swapped);
    free(data);
}

/* Another version of the same keys at the same places: as if a write of this block got lost. */
static void blocks_of_another_table_are_noticed(void **state)
{
    struct fixture *fixture = *state;
    size_t size, other_size;
    struct table_info other_info;

    add_even_keys(fixture, 200, 100);
    struct record_set other = fixture->set;
    fixture->set = (struct record_set){.last_seq = 5000};
    add_even_keys(fixture, 200, 100);
    make(fixture);
    tables_write(fixture->dir, 2, &other, &other_info);
    uint8_t *data = file_read_all(fixture->dir, NAME, &size);
    uint8_t *other_data = file_read_all(fixture->dir, "0000000000000002.table", &other_size);
    assert_int_equal(size, other_size);
    for (uint64_t at = 4096; at < 5 * 4096; at += 4096) {
        uint8_t page[4096];
        memcpy(page, data + at, sizeof page);
        memcpy(data + at, other_data + at, sizeof page);
        file_write_all(fixture->dir, NAME, data, size);
        assert_damaged(fixture);
        memcpy(data + at, page, sizeof page);
    }
    free(data);
    free(other_data);
    record_set_release(&other);
}

static void another_file_under_its_name_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct table_info other;
    struct table *table;

    add_even_keys(fixture, 20, 100);
    make(fixture);
    tables_write(fixture->dir, 2, &fixture->set, &other);
    assert_ok(vfs_rename(fixture->dir, "0000000000000002.table", NAME));
    assert_err(ERR_CORRUPT, open_table(fixture, &table));
    assert_err(ERR_CORRUPT, table_open(fixture->dir, 0, 1, NULL, &table, NULL));
}

static void another_store_s_file_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct table *table;

    add_even_keys(fixture, 20, 100);
    make(fixture);
    assert_err(ERR_CORRUPT, table_open(fixture->dir, TABLES_STORE_ID + 1, 1, NULL, &table, NULL));
}

static void a_table_that_the_manifest_does_not_mean_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct table *table;
    const size_t fields[] = {
        offsetof(struct table_info, file_id),    offsetof(struct table_info, size_bytes),
        offsetof(struct table_info, records),    offsetof(struct table_info, markers),
        offsetof(struct table_info, min_seq),    offsetof(struct table_info, max_seq),
        offsetof(struct table_info, data_bytes), offsetof(struct table_info, footer_checksum),
        offsetof(struct table_info, smallest),   offsetof(struct table_info, largest.data),
    };

    add_even_keys(fixture, 20, 100);
    make(fixture);
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        uint8_t *byte = (uint8_t *)&fixture->info + fields[i];
        *byte ^= 1;
        assert_err(ERR_CORRUPT, open_table(fixture, &table));
        *byte ^= 1;
    }
    assert_ok(open_table(fixture, &table));
    tables_close(table);
}

/* --- Refused at open, with the place ---------------------------------------------------------- */

static void damage_outside_the_records_is_refused_at_open_and_told(void **state)
{
    struct fixture *fixture = *state;
    struct table_footer footer;
    struct table *table;
    size_t size;
    char place[64];

    add_even_keys(fixture, 100, 100);
    make(fixture);
    uint8_t *data = file_read_all(fixture->dir, NAME, &size);
    memcpy(&footer, data + size - sizeof footer, sizeof footer);
    free(data);
    for (int i = 0; i < REGIONS; i++) {
        const struct table_region *region = &footer.regions[i];
        uint64_t bit = 8 * (region->offset + region->size_bytes / 2);
        file_flip_bit(fixture->dir, NAME, bit);
        assert_err(ERR_CORRUPT, open_table(fixture, &table));
        (void)snprintf(place, sizeof place,
                       NAME ", offset %llu: ", (unsigned long long)region->offset);
        if (!strstr(fixture->detail.text, place)) {
            fail_msg("\"%s\" doesn't say \"%s\"", fixture->detail.text, place);
        }
        file_flip_bit(fixture->dir, NAME, bit);
    }
    file_flip_bit(fixture->dir, NAME, 8 * (size - 1));
    assert_err(ERR_CORRUPT, open_table(fixture, &table));
    (void)snprintf(place, sizeof place, NAME ", offset %zu: ", size - sizeof footer);
    assert_non_null(strstr(fixture->detail.text, place));
}

static void a_later_format_version_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct table *table;
    size_t size;

    add_even_keys(fixture, 20, 100);
    make(fixture);
    uint8_t *data = file_read_all(fixture->dir, NAME, &size);
    store_u32(data + 8, FILES_FORMAT_VERSION + 1);
    store_u32(data + 60, crc32c(0, data, 60));
    file_write_all(fixture->dir, NAME, data, size);
    free(data);
    assert_err(ERR_FORMAT, open_table(fixture, &table));
}

/* --- Pages that can't be read ----------------------------------------------------------------- */

static void cut_file(struct fixture *fixture, off_t size)
{
    char path[TEMP_DIR_BYTES + 64];
    (void)snprintf(path, sizeof path, "%s/" NAME, fixture->path);
    assert_int_equal(truncate(path, size), 0);
}

/* What happens when somebody truncates the file, or when the disk fails under the map. */
static void unreadable_pages_are_an_error_of_their_keys_only(void **state)
{
    struct fixture *fixture = *state;
    struct table *table;
    struct table_iter iter;
    const struct record *record;
    size_t errors = 0;
    char text[200];

    add_even_keys(fixture, 200, 100);
    make(fixture);
    assert_ok(open_table(fixture, &table));
    struct bytes first = record_key(fixture->set.records[0]);
    struct bytes last = record_key(fixture->set.records[fixture->set.n - 1]);
    assert_ok(table_get(table, last, table_hash(last), TABLE_WHOLE, &record));

    /* The filter and the index end behind the records: keep them in a second map's pages. */
    cut_file(fixture, 3 * 4096);
    assert_err(ERR_IO, table_get(table, last, table_hash(last), TABLE_WHOLE, &record));
    table_error_text(table, text, sizeof text);
    assert_non_null(strstr(text, NAME ", offset "));
    assert_err(ERR_IO, table_iter_seek(&iter, table, first, TABLE_WHOLE));
    assert_null(iter.record);
    assert_err(ERR_IO, table_iter_seek_before(&iter, table, bytes_of(NULL, 0), TABLE_WHOLE));
    assert_err(ERR_IO, table_iter_seek(&iter, table, last, TABLE_WHOLE));
    for (size_t i = 0; i < fixture->set.n; i++) {
        struct bytes key = record_key(fixture->set.records[i]);
        errors += table_get(table, key, table_hash(key), TABLE_WHOLE, &record) == ERR_IO;
    }
    assert_int_equal(errors, fixture->set.n); /* the index is gone */
    assert_err(ERR_CORRUPT, table_verify(fixture->dir, table, NULL, NULL, &fixture->detail));
    tables_close(table);
}

/* Only records are gone: a long value in front, cut off with the help of a copy of the rest. */
static void an_unreadable_value_is_an_error_of_its_part_only(void **state)
{
    struct fixture *fixture = *state;
    struct table *table;
    const struct record *record;
    struct bytes key = bytes_of_text("long");
    const uint64_t size = 40 * RECORD_CHUNK_BYTES;

    record_set_add(&fixture->set, key, size);
    make(fixture);
    assert_ok(open_table(fixture, &table));
    assert_ok(table_get(table, key, table_hash(key), TABLE_HEAD, &record));
    cut_file(fixture, (off_t)(20 * RECORD_CHUNK_BYTES));
    assert_ok(table_verify_value(table, record, 0, 18 * RECORD_CHUNK_BYTES));
    assert_err(ERR_IO, table_verify_value(table, record, 0, size));
    assert_err(ERR_IO, table_verify_value(table, record, size - 1, 1));
    assert_true(table_value_is_verified(table, record, 0, 18 * RECORD_CHUNK_BYTES));
    assert_false(table_value_is_verified(table, record, 0, size));
    tables_close(table);
}

/* --- Checking goes on behind damage ----------------------------------------------------------- */

struct reports {
    size_t n;
    uint64_t offsets[8];
    char first_keys[8][16], end_keys[8][16];
    char texts[8][100];
};

static void report(void *arg, uint64_t offset, struct bytes first_key, struct bytes end_key,
                   const char *text)
{
    struct reports *reports = arg;
    size_t i = reports->n++;

    assert_true(i < COUNT_OF(reports->offsets));
    reports->offsets[i] = offset;
    (void)snprintf(reports->first_keys[i], 16, "%.*s", (int)first_key.size,
                   (const char *)first_key.data);
    (void)snprintf(reports->end_keys[i], 16, "%.*s", (int)end_key.size,
                   end_key.size > 0 ? (const char *)end_key.data : "");
    (void)snprintf(reports->texts[i], sizeof reports->texts[i], "%s", text);
}

static void reports_every_damaged_block_with_its_keys(void **state)
{
    struct fixture *fixture = *state;
    struct reports reports = {.n = 0};
    struct table *table;

    add_even_keys(fixture, 200, 100);
    make(fixture);
    file_flip_bit(fixture->dir, NAME, 8 * (4096 + 100));
    file_flip_bit(fixture->dir, NAME, 8 * (3 * 4096 + 100));
    assert_ok(open_table(fixture, &table));
    assert_err(ERR_CORRUPT, table_verify(fixture->dir, table, report, &reports, &fixture->detail));
    assert_int_equal(reports.n, 2);
    assert_int_equal(reports.offsets[0], 4096);
    assert_int_equal(reports.offsets[1], 3 * 4096);
    assert_string_equal(reports.first_keys[0], "k000");
    for (size_t i = 0; i < fixture->set.n; i++) {
        const struct record *record;
        struct bytes key = record_key(fixture->set.records[i]);
        enum err err = table_get(table, key, table_hash(key), TABLE_WHOLE, &record);
        bool said = false;
        for (size_t r = 0; r < reports.n; r++) {
            said = said || (bytes_compare(key, bytes_of_text(reports.first_keys[r])) >= 0 &&
                            bytes_compare(key, bytes_of_text(reports.end_keys[r])) < 0);
        }
        assert_int_equal(err == ERR_CORRUPT, said);
    }
    assert_non_null(strstr(fixture->detail.text, NAME ", offset 4096: "));
    assert_non_null(strstr(fixture->detail.text, "\"k000\""));
    tables_close(table);
}

static void a_bad_sector_is_an_error_of_its_block_only(void **state)
{
    struct fixture *fixture = *state;
    struct reports reports = {.n = 0};
    struct table *table;

    add_even_keys(fixture, 200, 100);
    make(fixture);
    assert_ok(open_table(fixture, &table));
    bad_begin = UINT64_C(3) * 4096 + 512;
    bad_end = bad_begin + 512;
    assert_err(ERR_IO, table_verify(fixture->dir, table, report, &reports, &fixture->detail));
    assert_int_equal(reports.n, 1);
    assert_int_equal(reports.offsets[0], 3 * 4096);
    assert_false(check_stream(fixture, table));
    bad_begin = bad_end = 0;
    assert_true(check_stream(fixture, table));
    tables_close(table);
}

/* --- Intact checksums around lies ------------------------------------------------------------- */

/* Makes the checksums of regions and footer right. */
static void reseal(uint8_t *data, size_t size)
{
    struct table_footer footer;

    memcpy(&footer, data + size - sizeof footer, sizeof footer);
    for (int i = 0; i < REGIONS; i++) {
        const struct table_region *region = &footer.regions[i];
        footer.checksums[i] = crc32c(crc32c(0, &footer.file_id, sizeof footer.file_id),
                                     data + region->offset, region->size_bytes);
    }
    footer.checksum = crc32c(0, &footer, offsetof(struct table_footer, checksum));
    memcpy(data + size - sizeof footer, &footer, sizeof footer);
}

static void a_filter_without_a_key_is_reported(void **state)
{
    struct fixture *fixture = *state;
    struct reports reports = {.n = 0};
    struct table_footer footer;
    struct table *table;
    size_t size;

    add_even_keys(fixture, 1, 100);
    make(fixture);
    uint8_t *data = file_read_all(fixture->dir, NAME, &size);
    memcpy(&footer, data + size - sizeof footer, sizeof footer);
    memset(data + footer.regions[REGION_FILTER].offset, 0, 64);
    reseal(data, size);
    file_write_all(fixture->dir, NAME, data, size);
    free(data);
    assert_ok(table_open(fixture->dir, 0, 1, NULL, &table, NULL));
    assert_err(ERR_CORRUPT, table_verify(fixture->dir, table, report, &reports, NULL));
    assert_string_equal(reports.texts[0], "a key isn't in the filter");
    tables_close(table);
}

/* Random bytes of everything but the records change, and the checksums are made to agree: what a
 * hostile file looks like. Nothing crashes, and no lookup gives bytes that aren't the record's. */
static void lies_with_right_checksums_do_no_harm(void **state)
{
    struct fixture *fixture = *state;
    struct table_footer footer;
    size_t size;
    unsigned opened = 0;

    add_even_keys(fixture, 100, 100);
    record_set_add(&fixture->set, bytes_of_text("k0030"), 70000);
    make(fixture);
    uint8_t *data = file_read_all(fixture->dir, NAME, &size);
    uint8_t *lie = malloc(size);
    assert_non_null(lie);
    memcpy(&footer, data + size - sizeof footer, sizeof footer);
    uint64_t begin = footer.regions[REGION_INDEX].offset;
    for (unsigned round = 0; round < 3000; round++) {
        struct table *table;
        memcpy(lie, data, size);
        /* Of the index in most rounds, or anywhere up to the properties' end. */
        uint64_t most = round % 3 != 0 ? footer.regions[REGION_INDEX].size_bytes
                                       : footer.regions[REGION_PROPERTIES].offset +
                                             footer.regions[REGION_PROPERTIES].size_bytes - begin;
        for (uint64_t n = 1 + prng_below(&fixture->prng, 3); n > 0; n--) {
            lie[begin + prng_below(&fixture->prng, most)] = (uint8_t)prng_next(&fixture->prng);
        }
        reseal(lie, size);
        file_write_all(fixture->dir, NAME, lie, size);
        if (table_open(fixture->dir, 0, 1, NULL, &table, NULL)) {
            continue;
        }
        opened++;
        for (size_t i = 0; i < fixture->set.n; i++) {
            const struct record *record = NULL;
            struct bytes key = record_key(fixture->set.records[i]);
            enum err err = table_get(table, key, table_hash(key), TABLE_WHOLE, &record);
            assert_true(err || !record || records_equal(record, fixture->set.records[i]));
        }
        enum err err = table_verify(fixture->dir, table, NULL, NULL, NULL);
        assert_true(
            is_damage(err) || memcmp(lie, data, size) == 0 ||
            memcmp(lie + begin, data + begin, footer.regions[REGION_FILTER].offset - begin) == 0);
        tables_close(table);
    }
    print_message("%u of 3000 opened\n", opened);
    free(lie);
    free(data);
}

/* --- Failing calls ---------------------------------------------------------------------------- */

static enum err try_to_write(struct fixture *fixture)
{
    struct table_writer *writer;

    enum err err = table_writer_new(fixture->dir, 1, TABLES_STORE_ID, 1001, &writer);
    if (err) {
        return err;
    }
    for (size_t i = 0; i < fixture->set.n && !err; i++) {
        err = table_writer_add(writer, fixture->set.records[i]);
    }
    enum err finished = table_writer_finish(writer, &fixture->info);
    if (err) {
        assert_err(err, finished); /* a failed writer stays so */
    }
    table_writer_free(writer);
    return finished;
}

static void a_failed_write_or_sync_leaves_no_file(void **state)
{
    struct fixture *fixture = *state;
    struct vfs_file *file;
    unsigned failed = 0;

    add_even_keys(fixture, 100, 100);
    record_set_add(&fixture->set, bytes_of_text("a"), 1000000);
    record_set_add(&fixture->set, bytes_of_text("z"), 1000000);
    for (int64_t n = 0;; n++, failed++) {
        fails_at = n;
        enum err err = try_to_write(fixture);
        if (!err) {
            break;
        }
        assert_true(err == ERR_NO_SPACE || err == ERR_IO);
        assert_err(ERR_NOT_FOUND, vfs_open(fixture->dir, NAME, VFS_READ, &file));
    }
    fails_at = -1;
    assert_in_range(failed, 4, 100);
    assert_intact(fixture);
}

static void a_failed_read_or_map_is_an_error_of_opening(void **state)
{
    struct fixture *fixture = *state;
    struct table *table;
    unsigned failed = 0;

    add_even_keys(fixture, 100, 100);
    make(fixture);
    for (int64_t n = 0;; n++, failed++) {
        fails_at = n;
        enum err err = open_table(fixture, &table);
        if (!err) {
            break;
        }
        assert_true(err == ERR_NO_MEMORY || err == ERR_IO);
    }
    fails_at = -1;
    assert_int_equal(failed, 4); /* header, footer, properties, map */
    tables_close(table);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(no_flipped_bit_of_a_small_table_goes_unnoticed),
        TEST(no_flipped_bit_of_a_long_value_goes_unnoticed),
        TEST(no_shorter_file_is_opened),
        TEST(a_missing_file_is_not_found),
        TEST(blocks_that_changed_places_are_noticed),
        TEST(blocks_of_another_table_are_noticed),
        TEST(another_file_under_its_name_is_refused),
        TEST(another_store_s_file_is_refused),
        TEST(a_table_that_the_manifest_does_not_mean_is_refused),
        TEST(damage_outside_the_records_is_refused_at_open_and_told),
        TEST(a_later_format_version_is_refused),
        TEST(unreadable_pages_are_an_error_of_their_keys_only),
        TEST(an_unreadable_value_is_an_error_of_its_part_only),
        TEST(reports_every_damaged_block_with_its_keys),
        TEST(a_bad_sector_is_an_error_of_its_block_only),
        TEST(a_filter_without_a_key_is_reported),
        TEST(lies_with_right_checksums_do_no_harm),
        TEST(a_failed_write_or_sync_leaves_no_file),
        TEST(a_failed_read_or_map_is_an_error_of_opening),
    };
    return cmocka_run_group_tests_name("table_damage", tests, NULL, NULL);
}
