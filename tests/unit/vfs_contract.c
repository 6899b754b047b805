/* vfs_contract.c - files and directories as any program sees them. */
#include "tests/unit/vfs_contract.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/pattern.h"

struct vfs_dir *contract_dir;
const char *contract_path;

struct vfs_file *contract_create(const char *name)
{
    struct vfs_file *file;
    assert_ok(vfs_open(contract_dir, name, VFS_CREATE, &file));
    return file;
}

enum err contract_write(struct vfs_file *file, uint64_t offset, const void *data, size_t size)
{
    struct iovec part = {.iov_base = (void *)data, .iov_len = size};
    return vfs_write(file, offset, &part, 1);
}

uint64_t contract_size(struct vfs_file *file)
{
    uint64_t size;
    assert_ok(vfs_size(file, &size));
    return size;
}

void contract_expect(struct vfs_file *file, uint64_t offset, const void *data, size_t size)
{
    unsigned char *read = malloc(size + 1);
    size_t n;

    assert_non_null(read);
    assert_ok(vfs_read(file, offset, read, size, &n));
    assert_int_equal(n, size);
    assert_memory_equal(read, data, size);
    free(read);
}

void contract_write_parts(struct prng *prng, size_t n_parts, size_t most_bytes_a_part)
{
    struct iovec *parts = calloc(n_parts + 1, sizeof *parts);
    size_t total = 0, at = 0;
    unsigned char *data;
    struct vfs_file *file = contract_create("parts");

    assert_non_null(parts);
    for (size_t i = 0; i < n_parts; i++) {
        bool empty = prng_chance(prng, 20);
        parts[i].iov_len = empty ? 0 : prng_below(prng, most_bytes_a_part + 1);
        total += parts[i].iov_len;
    }
    data = malloc(total + 1);
    assert_non_null(data);
    pattern_fill(bytes_of_text("parts"), n_parts, data, total);
    for (size_t i = 0; i < n_parts; i++) {
        parts[i].iov_base = parts[i].iov_len == 0 ? NULL : data + at;
        at += parts[i].iov_len;
    }
    assert_ok(vfs_write(file, 10, parts, n_parts));
    assert_int_equal(contract_size(file), total == 0 ? 0 : 10 + total);
    contract_expect(file, 10, data, total);
    vfs_close(file);
    assert_ok(vfs_unlink(contract_dir, "parts"));
    free(data);
    free(parts);
}

void contract_reserve(void)
{
    static const char zeros[300000];
    struct vfs_file *file = contract_create("reserved");

    assert_ok(vfs_reserve(file, 0));
    assert_int_equal(contract_size(file), 0);
    assert_ok(contract_write(file, 0, "begin", 5));
    assert_ok(vfs_reserve(file, 3)); /* less than there is */
    assert_int_equal(contract_size(file), 5);
    assert_ok(vfs_reserve(file, sizeof zeros));
    assert_int_equal(contract_size(file), sizeof zeros);
    contract_expect(file, 0, "begin", 5);
    contract_expect(file, 5, zeros, sizeof zeros - 5);
    vfs_close(file);
    assert_ok(vfs_unlink(contract_dir, "reserved"));
}

void a_missing_directory_is_made_only_on_demand(void **state)
{
    struct vfs_dir *made;
    char path[1024];

    (void)state;
    (void)snprintf(path, sizeof path, "%s/data", contract_path);
    assert_err(ERR_NOT_FOUND, vfs_dir_open(contract_dir->vfs, path, false, &made));
    assert_ok(vfs_dir_open(contract_dir->vfs, path, true, &made));
    vfs_dir_close(made);
    /* it may be there already, with or without the wish */
    assert_ok(vfs_dir_open(contract_dir->vfs, path, true, &made));
    vfs_dir_close(made);
    assert_ok(vfs_dir_open(contract_dir->vfs, path, false, &made));
    vfs_dir_close(made);
}

void the_lock_keeps_everybody_else_out_until_it_is_closed(void **state)
{
    struct vfs_dir *other;

    (void)state;
    assert_ok(vfs_dir_lock(contract_dir));
    assert_ok(vfs_dir_open(contract_dir->vfs, contract_path, false, &other));
    assert_err(ERR_LOCKED, vfs_dir_lock(other));
    vfs_dir_close(contract_dir);
    assert_ok(vfs_dir_lock(other));
    contract_dir = other;
}

void create_wants_a_new_name_and_the_others_an_old_one(void **state)
{
    struct vfs_file *file;

    (void)state;
    assert_err(ERR_NOT_FOUND, vfs_open(contract_dir, "a", VFS_READ, &file));
    assert_err(ERR_NOT_FOUND, vfs_open(contract_dir, "a", VFS_WRITE, &file));
    file = contract_create("a");
    assert_int_equal(contract_size(file), 0);
    vfs_close(file);
    assert_err(ERR_EXISTS, vfs_open(contract_dir, "a", VFS_CREATE, &file));
    assert_ok(vfs_open(contract_dir, "a", VFS_WRITE, &file));
    assert_ok(contract_write(file, 0, "x", 1));
    contract_expect(file, 0, "x", 1);
    vfs_close(file);
}

void direct_reads_read_the_same_whatever_their_bounds(void **state)
{
    enum { SIZE = 3 * VFS_DIRECT_ALIGN + 123 };
    static _Alignas(VFS_DIRECT_ALIGN) uint8_t written[SIZE], read[SIZE + VFS_DIRECT_ALIGN];
    static const struct {
        size_t offset, size;
    } bounds[] = {
        {0, VFS_DIRECT_ALIGN},
        {VFS_DIRECT_ALIGN, 3 * VFS_DIRECT_ALIGN}, /* beyond the end */
        {4 * VFS_DIRECT_ALIGN, VFS_DIRECT_ALIGN}, /* behind it */
        {0, SIZE},
        {17, 5000},
        {SIZE - 3, 10},
        {SIZE, 10},
    };
    struct vfs_file *file = contract_create("a");

    (void)state;
    assert_err(ERR_NOT_FOUND, vfs_open(contract_dir, "b", VFS_READ_DIRECT, &file));
    for (size_t i = 0; i < SIZE; i++) {
        written[i] = (uint8_t)(i * 7 + i / 256);
    }
    assert_ok(contract_write(file, 0, written, SIZE));
    vfs_close(file);
    assert_ok(vfs_open(contract_dir, "a", VFS_READ_DIRECT, &file));
    assert_err(ERR_IO, contract_write(file, 0, "y", 1));
    for (size_t i = 0; i < COUNT_OF(bounds); i++) {
        size_t left = bounds[i].offset < SIZE ? SIZE - bounds[i].offset : 0;
        size_t n;
        memset(read, 0xEE, sizeof read);
        assert_ok(vfs_read(file, bounds[i].offset, read, bounds[i].size, &n));
        assert_int_equal(n, left < bounds[i].size ? left : bounds[i].size);
        assert_memory_equal(read, written + (n > 0 ? bounds[i].offset : 0), n);
    }
    vfs_advise(file, 0, SIZE, VFS_ADVICE_DONTNEED);
    vfs_close(file);
}

void a_file_open_for_reading_cannot_be_written(void **state)
{
    struct vfs_file *file = contract_create("a");

    (void)state;
    assert_ok(contract_write(file, 0, "x", 1));
    vfs_close(file);
    assert_ok(vfs_open(contract_dir, "a", VFS_READ, &file));
    assert_err(ERR_IO, contract_write(file, 0, "y", 1));
    assert_err(ERR_IO, vfs_reserve(file, 100));
    contract_expect(file, 0, "x", 1);
    assert_int_equal(contract_size(file), 1);
    vfs_close(file);
}

void reading_stops_at_the_end_of_the_file(void **state)
{
    struct vfs_file *file = contract_create("a");
    char read[16];
    size_t n;

    (void)state;
    assert_ok(contract_write(file, 3, "abc", 3));
    assert_int_equal(contract_size(file), 6);
    assert_ok(vfs_read(file, 0, read, sizeof read, &n));
    assert_int_equal(n, 6);
    assert_memory_equal(read, "\0\0\0abc", 6);
    assert_ok(vfs_read(file, 4, read, 1, &n));
    assert_int_equal(n, 1);
    assert_int_equal(read[0], 'b');
    assert_ok(vfs_read(file, 6, read, sizeof read, &n));
    assert_int_equal(n, 0);
    assert_ok(vfs_read(file, 1000, read, sizeof read, &n));
    assert_int_equal(n, 0);
    vfs_close(file);
}

void writes_all_parts_also_more_than_one_call_takes(void **state)
{
    struct prng prng;

    (void)state;
    prng_init(&prng, test_seed());
    contract_write_parts(&prng, 0, 0);
    contract_write_parts(&prng, 1, 100);
    contract_write_parts(&prng, IOV_MAX - 1, 50);
    contract_write_parts(&prng, IOV_MAX, 50);
    contract_write_parts(&prng, IOV_MAX + 1, 50);
    contract_write_parts(&prng, 3 * IOV_MAX + 7, 20);
}

void reserving_keeps_what_is_there_and_adds_zeros(void **state)
{
    (void)state;
    contract_reserve();
}

void rename_replaces_and_unlink_removes(void **state)
{
    struct vfs_file *a = contract_create("a");
    struct vfs_file *b = contract_create("b");
    struct vfs_file *file;

    (void)state;
    assert_ok(contract_write(a, 0, "A", 1));
    assert_ok(contract_write(b, 0, "B", 1));
    assert_ok(vfs_rename(contract_dir, "a", "b"));
    assert_err(ERR_NOT_FOUND, vfs_open(contract_dir, "a", VFS_READ, &file));
    assert_ok(vfs_open(contract_dir, "b", VFS_READ, &file));
    contract_expect(file, 0, "A", 1);
    vfs_close(file);
    contract_expect(b, 0, "B", 1); /* who has it open keeps it */
    assert_err(ERR_NOT_FOUND, vfs_rename(contract_dir, "a", "b"));

    assert_ok(vfs_unlink(contract_dir, "b"));
    assert_err(ERR_NOT_FOUND, vfs_unlink(contract_dir, "b"));
    assert_err(ERR_NOT_FOUND, vfs_open(contract_dir, "b", VFS_READ, &file));
    contract_expect(a, 0, "A", 1);
    assert_ok(vfs_dir_sync(contract_dir));
    vfs_close(a);
    vfs_close(b);
}

struct seen {
    unsigned names[3]; /* "a", "b", "c": how often */
    unsigned total;
    unsigned most; /* then stop */
};

static bool note_name(void *arg, const char *name)
{
    struct seen *seen = arg;

    seen->total++;
    if (strlen(name) == 1 && name[0] >= 'a' && name[0] <= 'c') {
        seen->names[name[0] - 'a']++;
    }
    return seen->total < seen->most;
}

static bool remove_name(void *arg, const char *name)
{
    (void)arg;
    assert_ok(vfs_unlink(contract_dir, name));
    return true;
}

void lists_every_name_once_until_told_to_stop(void **state)
{
    struct seen seen = {.most = UINT_MAX};

    (void)state;
    assert_ok(vfs_dir_list(contract_dir, note_name, &seen));
    assert_int_equal(seen.total, 0);
    vfs_close(contract_create("a"));
    vfs_close(contract_create("b"));
    vfs_close(contract_create("c"));
    for (unsigned round = 1; round <= 2; round++) {
        assert_ok(vfs_dir_list(contract_dir, note_name, &seen));
        assert_int_equal(seen.total, 3 * round);
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(seen.names[i], round);
        }
    }
    seen = (struct seen){.most = 2};
    assert_ok(vfs_dir_list(contract_dir, note_name, &seen));
    assert_int_equal(seen.total, 2);

    /* what it is told of may be removed on the way */
    assert_ok(vfs_dir_list(contract_dir, remove_name, NULL));
    seen = (struct seen){.most = UINT_MAX};
    assert_ok(vfs_dir_list(contract_dir, note_name, &seen));
    assert_int_equal(seen.total, 0);
}

void a_map_shows_the_bytes_and_outlives_file_and_name(void **state)
{
    enum { SIZE = 3 * 4096 + 100 };
    unsigned char *data = malloc(SIZE);
    struct vfs_file *file = contract_create("a");
    const void *map;

    (void)state;
    assert_non_null(data);
    pattern_fill(bytes_of_text("a"), 1, data, SIZE);
    assert_ok(contract_write(file, 0, data, SIZE));
    vfs_advise(file, 0, SIZE, VFS_ADVICE_SEQUENTIAL);
    assert_ok(vfs_map(file, SIZE, &map));
    vfs_close(file);
    assert_ok(vfs_unlink(contract_dir, "a"));
    assert_memory_equal(map, data, SIZE);
    vfs_unmap(contract_dir->vfs, map, SIZE);
    free(data);
}

void what_is_populated_is_in_memory(void **state)
{
    enum { SIZE = 3 * 4096 + 100 };
    static unsigned char data[SIZE];
    const struct vfs *vfs = contract_dir->vfs;
    struct vfs_file *file = contract_create("a");
    const char *map;
    const void *mapped;

    (void)state;
    memset(data, 'a', sizeof data);
    assert_ok(contract_write(file, 0, data, SIZE));
    assert_ok(vfs_map(file, SIZE, &mapped));
    map = mapped;
    assert_ok(vfs_populate(vfs, map + 5000, SIZE - 5000));
    assert_true(vfs_resident(vfs, map + 5000, SIZE - 5000));
    assert_ok(vfs_populate(vfs, map, SIZE));
    assert_true(vfs_resident(vfs, map, SIZE));
    assert_ok(vfs_populate(vfs, map + 7, 0));
    assert_true(vfs_resident(vfs, map + 7, 0));
    assert_memory_equal(map, data, SIZE);
    vfs_unmap(vfs, map, SIZE);
    vfs_close(file);
}

void advice_changes_nothing_and_closing_null_is_allowed(void **state)
{
    struct vfs_file *file = contract_create("a");

    (void)state;
    assert_ok(contract_write(file, 0, "abc", 3));
    vfs_advise(file, 0, 3, VFS_ADVICE_DONTNEED);
    vfs_advise(file, 0, 3, VFS_ADVICE_SEQUENTIAL);
    contract_expect(file, 0, "abc", 3);
    vfs_close(file);
    vfs_close(NULL);
    vfs_dir_close(NULL);
}
