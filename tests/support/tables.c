/* tables.c - sorted records that a test knows, and tables made of them. */
#include "tests/support/tables.h"

#include <stdlib.h>

#include "store/base/vfs.h"
#include "store/lsm/files.h"
#include "tests/support/check.h"
#include "tests/support/pattern.h"

size_t record_set_rank(const struct record_set *set, struct bytes key)
{
    size_t low = 0;
    size_t high = set->n;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (bytes_compare(record_key(set->records[middle]), key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct record *record_set_find(const struct record_set *set, struct bytes key)
{
    size_t rank = record_set_rank(set, key);
    return rank < set->n && bytes_equal(record_key(set->records[rank]), key) ? set->records[rank]
                                                                             : NULL;
}

bool records_equal(const struct record *a, const struct record *b)
{
    return record_size(a) == record_size(b) && memcmp(a, b, record_size(a)) == 0;
}

static void add(struct record_set *set, enum record_kind kind, struct bytes key,
                uint64_t value_bytes)
{
    uint64_t seq = set->last_seq + 1;
    struct record_meta meta = {.modified_ms = 1700000000000 + seq};
    size_t rank = record_set_rank(set, key);

    if (record_set_find(set, key)) {
        return;
    }
    if (seq % 3 == 0) {
        meta.content_type = bytes_of_text("text/plain");
    }
    struct record *record =
        malloc(record_size_for((uint16_t)key.size, record_meta_size(&meta), value_bytes));
    assert_non_null(record);
    void *value = record_init(record, kind, key, &meta, value_bytes);
    pattern_fill(key, seq, value, value_bytes);
    record_seal(record, record_payload_checksum(record), seq, 0);
    if (set->n == set->capacity) {
        set->capacity = set->capacity * 2 + 16;
        set->records = realloc(set->records, set->capacity * sizeof(struct record *));
        assert_non_null(set->records);
    }
    memmove(set->records + rank + 1, set->records + rank,
            (set->n - rank) * sizeof(struct record *));
    set->records[rank] = record;
    set->n++;
    set->last_seq = seq;
}

void record_set_add(struct record_set *set, struct bytes key, uint64_t value_bytes)
{
    add(set, RECORD_PUT, key, value_bytes);
}

void record_set_add_marker(struct record_set *set, struct bytes key)
{
    add(set, RECORD_DELETE, key, 0);
}

/* Letters of a small alphabet that has the lowest and the highest byte. */
static size_t random_key(struct prng *prng, uint8_t ret_key[RECORD_KEY_MAX_BYTES])
{
    static const uint8_t letters[] = {0x00, 'a', 'b', 0xFF};
    size_t size = 0;

    if (prng_chance(prng, 60)) {
        static const uint8_t alike[] = {'t', 'e', 'n', 'a', 'n', 't', 's', '/', '1', '/'};
        memcpy(ret_key, alike, sizeof alike);
        size = sizeof alike;
    }
    size_t end = size + 1 + prng_below(prng, prng_chance(prng, 2) ? 1000 : 12);
    while (size < end) {
        ret_key[size++] = letters[prng_below(prng, sizeof letters)];
    }
    return size;
}

void record_set_add_random(struct record_set *set, struct prng *prng, size_t n, uint64_t value_max)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t key[RECORD_KEY_MAX_BYTES];
        size_t size = random_key(prng, key);
        if (prng_chance(prng, 10)) {
            record_set_add_marker(set, bytes_of(key, size));
            continue;
        }
        uint64_t most = prng_chance(prng, 90) ? 200 : value_max;
        record_set_add(set, bytes_of(key, size), prng_below(prng, most + 1));
    }
}

void record_set_release(struct record_set *set)
{
    for (size_t i = 0; i < set->n; i++) {
        free(set->records[i]);
    }
    free(set->records);
    *set = (struct record_set){.n = 0};
}

void tables_write(struct vfs_dir *dir, uint64_t number, const struct record_set *set,
                  struct table_info *ret_info)
{
    struct table_writer *writer;

    assert_ok(table_writer_new(dir, number, TABLES_STORE_ID, number + 1000, &writer));
    for (size_t i = 0; i < set->n; i++) {
        assert_ok(table_writer_add(writer, set->records[i]));
    }
    assert_ok(table_writer_finish(writer, ret_info));
    table_writer_free(writer);
}

void tables_close(struct table *table)
{
    assert_true(table_release(table));
    table_free(table);
}

uint8_t *file_read_all(struct vfs_dir *dir, const char *name, size_t *ret_size)
{
    struct vfs_file *file;
    uint64_t size;

    assert_ok(vfs_open(dir, name, VFS_READ, &file));
    assert_ok(vfs_size(file, &size));
    uint8_t *data = malloc(size + 1);
    assert_non_null(data);
    assert_ok(vfs_read(file, 0, data, size, ret_size));
    assert_int_equal(*ret_size, size);
    vfs_close(file);
    return data;
}

void file_write_all(struct vfs_dir *dir, const char *name, const void *data, size_t size)
{
    struct vfs_file *file;
    struct iovec part = {.iov_base = (void *)data, .iov_len = size};

    enum err err = vfs_unlink(dir, name);
    assert_true(err == ERR_OK || err == ERR_NOT_FOUND);
    assert_ok(vfs_open(dir, name, VFS_CREATE, &file));
    assert_ok(vfs_write(file, 0, &part, 1));
    vfs_close(file);
}

void file_flip_bit(struct vfs_dir *dir, const char *name, uint64_t bit)
{
    struct vfs_file *file;
    uint8_t byte;
    size_t got;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};

    assert_ok(vfs_open(dir, name, VFS_WRITE, &file));
    assert_ok(vfs_read(file, bit / 8, &byte, 1, &got));
    assert_int_equal(got, 1);
    byte = (uint8_t)(byte ^ 1u << bit % 8);
    assert_ok(vfs_write(file, bit / 8, &part, 1));
    vfs_close(file);
}
