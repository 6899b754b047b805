/* table_case.c - what tests of damaged tables share. */
#include "tests/support/table_case.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/sigbus.h"
#include "tests/support/check.h"

static struct vfs failing_vfs;
int64_t table_case_fails_at; /* the call of this number fails, from 0; negative: none */
uint64_t table_case_bad_begin, table_case_bad_end; /* a read of these bytes of a file fails */

static bool must_fail(void)
{
    return table_case_fails_at >= 0 && table_case_fails_at-- == 0;
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
    if (must_fail() || (offset < table_case_bad_end && offset + size > table_case_bad_begin)) {
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

int table_case_set_up(void **state)
{
    struct table_case *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    failing_vfs = *vfs_posix();
    failing_vfs.write = may_fail_write;
    failing_vfs.sync = may_fail_sync;
    failing_vfs.read = may_fail_read;
    failing_vfs.map = may_fail_map;
    failing_vfs.advise = no_advice;
    table_case_fails_at = -1;
    table_case_bad_begin = table_case_bad_end = 0;
    sigbus_install(); /* cmocka has taken the signal for itself at the begin of the test */
    temp_dir_make(fixture->path);
    prng_init(&fixture->prng, test_seed());
    assert_ok(vfs_dir_open(&failing_vfs, fixture->path, false, &fixture->dir));
    *state = fixture;
    return 0;
}

int table_case_tear_down(void **state)
{
    struct table_case *fixture = *state;
    record_set_release(&fixture->set);
    vfs_dir_close(fixture->dir);
    temp_dir_remove(fixture->path);
    free(fixture);
    return 0;
}

/* Records k000, k002, …: the odd ones are absent. */
void table_case_add_even_keys(struct table_case *fixture, unsigned n, uint64_t value_bytes)
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

void table_case_make(struct table_case *fixture)
{
    tables_write(fixture->dir, 1, &fixture->set, &fixture->info);
}

enum err table_case_open(struct table_case *fixture, struct table **ret_table)
{
    fixture->detail.text[0] = '\0';
    enum err err =
        table_open(fixture->dir, TABLES_STORE_ID, 1, &fixture->info, ret_table, &fixture->detail);
    if (err && err != ERR_NO_MEMORY) {
        assert_non_null(strstr(fixture->detail.text, TABLE_CASE_NAME));
    }
    return err;
}

bool is_damage(enum err err)
{
    return err == ERR_CORRUPT || err == ERR_IO;
}
/* Looks up every key and its neighbour, which is absent. Returns how many gave an error. */
size_t table_case_get_all(struct table *table, const struct record_set *set)
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
bool table_case_stream(struct table_case *fixture, struct table *table)
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

/* Opens the table and asks for everything: no answer is wrong. Thorough: reads it as files are
 * read, too, which takes twice as long. */
struct table_seen table_case_read(struct table_case *fixture, bool thorough)
{
    struct table *table;
    enum err err = ERR_OK;

    if (table_case_open(fixture, &table)) {
        return (struct table_seen){.at_open = true};
    }
    bool lookups_err = table_case_get_all(table, &fixture->set) > 0;
    assert_int_equal(check_walk(table, &fixture->set), !lookups_err);
    if (lookups_err) {
        char text[200];
        table_error_text(table, text, sizeof text);
        assert_non_null(strstr(text, TABLE_CASE_NAME ", offset "));
    }
    if (thorough) {
        bool streamed = table_case_stream(fixture, table);
        assert_false(streamed && lookups_err);
        err = table_verify(fixture->dir, table, NULL, NULL, &fixture->detail);
    }
    if (err) {
        assert_true(is_damage(err));
        assert_non_null(strstr(fixture->detail.text, TABLE_CASE_NAME));
    }
    tables_close(table);
    return (struct table_seen){.by_lookups = lookups_err, .by_verify = err != ERR_OK};
}

void table_case_assert_damaged(struct table_case *fixture)
{
    struct table_seen seen = table_case_read(fixture, true);
    assert_true(seen.at_open || (seen.by_lookups && seen.by_verify));
}

void table_case_assert_intact(struct table_case *fixture)
{
    struct table_seen seen = table_case_read(fixture, true);
    assert_false(seen.at_open || seen.by_lookups || seen.by_verify);
}

void table_report(void *arg, uint64_t offset, struct bytes first_key, struct bytes end_key,
                  const char *text)
{
    struct table_reports *reports = arg;
    size_t i = reports->n++;

    assert_true(i < COUNT_OF(reports->offsets));
    reports->offsets[i] = offset;
    (void)snprintf(reports->first_keys[i], 16, "%.*s", (int)first_key.size,
                   (const char *)first_key.data);
    (void)snprintf(reports->end_keys[i], 16, "%.*s", (int)end_key.size,
                   end_key.size > 0 ? (const char *)end_key.data : "");
    (void)snprintf(reports->texts[i], sizeof reports->texts[i], "%s", text);
}

void table_case_overwrite(struct table_case *fixture, uint64_t offset, const void *data,
                          size_t size)
{
    struct vfs_file *file;
    struct iovec part = {.iov_base = (void *)data, .iov_len = size};

    assert_ok(vfs_open(fixture->dir, TABLE_CASE_NAME, VFS_WRITE, &file));
    assert_ok(vfs_write(file, offset, &part, 1));
    vfs_close(file);
}
