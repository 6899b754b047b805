/*
 * File operations as system calls: names, bytes, short calls, errors.
 *
 * The linker sends some system calls through the __wrap_ functions below (CMakeLists.txt), which
 * shorten them or let them fail.
 */
#include "store/base/vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/check.h"
#include "tests/support/pattern.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

/* What the next system calls do; all zero: what they always do. */
static struct {
    size_t most_bytes;      /* of one read or write; 0: no limit */
    unsigned interrupted;   /* so many calls fail with EINTR first */
    int write_errno;        /* writes fail so */
    int fallocate_errno;    /* and fallocate */
    int fdatasync_errno;    /* and fdatasync */
    unsigned n_fdatasync;   /* how often it was called */
    unsigned n_write_calls; /* pwrite and pwritev that reached the kernel */
} calls;

static bool is_interrupted(void)
{
    if (calls.interrupted == 0) {
        return false;
    }
    calls.interrupted--;
    errno = EINTR;
    return true;
}

static size_t shortened(size_t size)
{
    return calls.most_bytes != 0 && calls.most_bytes < size ? calls.most_bytes : size;
}

ssize_t __real_pread(int fd, void *into, size_t size, off_t offset);
ssize_t __real_pwrite(int fd, const void *from, size_t size, off_t offset);
ssize_t __real_pwritev(int fd, const struct iovec *parts, int n_parts, off_t offset);
int __real_fallocate(int fd, int mode, off_t offset, off_t size);
int __real_fdatasync(int fd);

ssize_t __wrap_pread(int fd, void *into, size_t size, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *from, size_t size, off_t offset);
ssize_t __wrap_pwritev(int fd, const struct iovec *parts, int n_parts, off_t offset);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t size);
int __wrap_fdatasync(int fd);

ssize_t __wrap_pread(int fd, void *into, size_t size, off_t offset)
{
    return is_interrupted() ? -1 : __real_pread(fd, into, shortened(size), offset);
}

ssize_t __wrap_pwrite(int fd, const void *from, size_t size, off_t offset)
{
    if (is_interrupted()) {
        return -1;
    }
    if (calls.write_errno != 0) {
        errno = calls.write_errno;
        return -1;
    }
    calls.n_write_calls++;
    return __real_pwrite(fd, from, shortened(size), offset);
}

ssize_t __wrap_pwritev(int fd, const struct iovec *parts, int n_parts, off_t offset)
{
    static struct iovec cut[IOV_MAX];
    size_t left = calls.most_bytes;
    int n_cut = 0;

    if (is_interrupted()) {
        return -1;
    }
    if (calls.write_errno != 0) {
        errno = calls.write_errno;
        return -1;
    }
    calls.n_write_calls++;
    if (calls.most_bytes == 0) {
        return __real_pwritev(fd, parts, n_parts, offset);
    }
    while (n_cut < n_parts && left > 0) {
        cut[n_cut] = parts[n_cut];
        if (cut[n_cut].iov_len > left) {
            cut[n_cut].iov_len = left;
        }
        left -= cut[n_cut].iov_len;
        n_cut++;
    }
    return __real_pwritev(fd, cut, n_cut, offset);
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t size)
{
    if (is_interrupted()) {
        return -1;
    }
    if (calls.fallocate_errno != 0) {
        errno = calls.fallocate_errno;
        return -1;
    }
    return __real_fallocate(fd, mode, offset, size);
}

int __wrap_fdatasync(int fd)
{
    calls.n_fdatasync++;
    if (calls.fdatasync_errno != 0) {
        errno = calls.fdatasync_errno;
        return -1;
    }
    return __real_fdatasync(fd);
}

enum { PATH_BYTES = 2 * TEMP_DIR_BYTES };

static char temp[TEMP_DIR_BYTES];
static struct vfs_dir *dir;

static int make_dir(void **state)
{
    (void)state;
    memset(&calls, 0, sizeof calls);
    temp_dir_make(temp);
    assert_ok(vfs_dir_open(vfs_posix(), temp, false, &dir));
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    memset(&calls, 0, sizeof calls);
    vfs_dir_close(dir);
    temp_dir_remove(temp);
    return 0;
}

static void path_of(const char *name, char ret_path[PATH_BYTES])
{
    (void)snprintf(ret_path, PATH_BYTES, "%s/%s", temp, name);
}

static struct vfs_file *create(const char *name)
{
    struct vfs_file *file;
    assert_ok(vfs_open(dir, name, VFS_CREATE, &file));
    return file;
}

static enum err write_at(struct vfs_file *file, uint64_t offset, const void *data, size_t size)
{
    struct iovec part = {.iov_base = (void *)data, .iov_len = size};
    return vfs_write(file, offset, &part, 1);
}

static uint64_t size_of(struct vfs_file *file)
{
    uint64_t size;
    assert_ok(vfs_size(file, &size));
    return size;
}

static void assert_content(struct vfs_file *file, uint64_t offset, const void *data, size_t size)
{
    unsigned char *read = malloc(size + 1);
    size_t n;

    assert_non_null(read);
    assert_ok(vfs_read(file, offset, read, size, &n));
    assert_int_equal(n, size);
    assert_memory_equal(read, data, size);
    free(read);
}

static void a_missing_directory_is_made_only_on_demand(void **state)
{
    char path[PATH_BYTES];
    struct vfs_dir *made;
    struct stat status;

    (void)state;
    path_of("data", path);
    assert_err(ERR_NOT_FOUND, vfs_dir_open(vfs_posix(), path, false, &made));
    assert_ok(vfs_dir_open(vfs_posix(), path, true, &made));
    vfs_dir_close(made);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode, S_IFDIR | 0700);
    /* it may be there already, with or without the wish */
    assert_ok(vfs_dir_open(vfs_posix(), path, true, &made));
    vfs_dir_close(made);
    assert_ok(vfs_dir_open(vfs_posix(), path, false, &made));
    vfs_dir_close(made);
    path_of("neither/nor", path);
    assert_err(ERR_NOT_FOUND, vfs_dir_open(vfs_posix(), path, true, &made));
}

static void a_file_is_no_directory(void **state)
{
    char path[PATH_BYTES];
    struct vfs_dir *opened;

    (void)state;
    vfs_close(create("file"));
    path_of("file", path);
    assert_err(ERR_IO, vfs_dir_open(vfs_posix(), path, true, &opened));
    assert_int_equal(errno, ENOTDIR);
}

static void the_lock_keeps_everybody_else_out_until_it_is_closed(void **state)
{
    struct vfs_dir *other;
    pid_t child;
    int status;

    (void)state;
    assert_ok(vfs_dir_lock(dir));
    assert_ok(vfs_dir_open(vfs_posix(), temp, false, &other));
    assert_err(ERR_LOCKED, vfs_dir_lock(other));

    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct vfs_dir *childs;
        bool kept_out = vfs_dir_open(vfs_posix(), temp, false, &childs) == ERR_OK &&
                        vfs_dir_lock(childs) == ERR_LOCKED;
        _exit(kept_out ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);

    vfs_dir_close(dir);
    assert_ok(vfs_dir_lock(other));
    dir = other;
}

static void create_wants_a_new_name_and_the_others_an_old_one(void **state)
{
    char path[PATH_BYTES];
    struct vfs_file *file;
    struct stat status;

    (void)state;
    assert_err(ERR_NOT_FOUND, vfs_open(dir, "a", VFS_READ, &file));
    assert_err(ERR_NOT_FOUND, vfs_open(dir, "a", VFS_WRITE, &file));
    vfs_close(create("a"));
    assert_err(ERR_EXISTS, vfs_open(dir, "a", VFS_CREATE, &file));
    path_of("a", path);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode, S_IFREG | 0600);
    assert_int_equal(status.st_size, 0);

    assert_ok(vfs_open(dir, "a", VFS_WRITE, &file));
    assert_ok(write_at(file, 0, "x", 1));
    vfs_close(file);
    assert_ok(vfs_open(dir, "a", VFS_READ, &file));
    assert_content(file, 0, "x", 1);
    assert_err(ERR_IO, write_at(file, 0, "y", 1));
    vfs_close(file);
}

static void a_symbolic_link_is_not_followed(void **state)
{
    char path[PATH_BYTES];
    struct vfs_file *file;

    (void)state;
    vfs_close(create("target"));
    path_of("link", path);
    assert_int_equal(symlink("target", path), 0);
    assert_err(ERR_IO, vfs_open(dir, "link", VFS_READ, &file));
    assert_int_equal(errno, ELOOP);
}

static void descriptors_are_not_inherited(void **state)
{
    struct vfs_file *file = create("a");
    unsigned n_open = 0;

    (void)state;
    for (int fd = 3; fd < 64; fd++) {
        int flags = fcntl(fd, F_GETFD);
        char link[64], target[PATH_MAX];
        ssize_t size;

        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        size = readlink(link, target, sizeof target - 1);
        if (flags < 0 || size < 0) {
            continue;
        }
        target[size] = '\0';
        if (strncmp(target, temp, strlen(temp)) == 0) {
            assert_true((flags & FD_CLOEXEC) != 0);
            n_open++;
        }
    }
    assert_int_equal(n_open, 2); /* the directory and the file */
    vfs_close(file);
}

static void reading_stops_at_the_end_of_the_file(void **state)
{
    struct vfs_file *file = create("a");
    char read[16];
    size_t n;

    (void)state;
    assert_ok(write_at(file, 3, "abc", 3));
    assert_int_equal(size_of(file), 6);
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

/* Writes `n_parts` parts of random sizes, none and empty ones among them, and reads them back. */
static void write_parts(struct prng *prng, size_t n_parts, size_t most_bytes_a_part)
{
    struct iovec *parts = calloc(n_parts + 1, sizeof *parts);
    size_t total = 0, at = 0;
    unsigned char *data;
    struct vfs_file *file = create("parts");

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
    assert_int_equal(size_of(file), total == 0 ? 0 : 10 + total);
    assert_content(file, 10, data, total);
    vfs_close(file);
    assert_ok(vfs_unlink(dir, "parts"));
    free(data);
    free(parts);
}

static void writes_all_parts_also_more_than_one_call_takes(void **state)
{
    struct prng prng;

    (void)state;
    prng_init(&prng, test_seed());
    write_parts(&prng, 0, 0);
    write_parts(&prng, 1, 100);
    write_parts(&prng, IOV_MAX - 1, 50);
    write_parts(&prng, IOV_MAX, 50);
    write_parts(&prng, IOV_MAX + 1, 50);
    write_parts(&prng, 3 * IOV_MAX + 7, 20);
}

static void continues_short_and_interrupted_calls(void **state)
{
    struct prng prng;

    (void)state;
    prng_init(&prng, test_seed());
    for (int round = 0; round < 50; round++) {
        calls.most_bytes = 1 + prng_below(&prng, 100);
        calls.interrupted = 3;
        write_parts(&prng, prng_below(&prng, 20), 200);
    }
}

static void no_parts_are_no_call(void **state)
{
    const struct iovec parts[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    struct vfs_file *file = create("a");

    (void)state;
    assert_ok(vfs_write(file, 0, parts, 3));
    assert_ok(vfs_write(file, 0, NULL, 0));
    assert_int_equal(calls.n_write_calls, 0);
    vfs_close(file);
}

static void errors_are_told_apart_and_leave_errno(void **state)
{
    static const struct {
        int number;
        enum err err;
    } rows[] = {
        {ENOSPC, ERR_NO_SPACE}, {EDQUOT, ERR_NO_SPACE}, {ENOMEM, ERR_NO_MEMORY},
        {EIO, ERR_IO},          {EFBIG, ERR_IO},        {EROFS, ERR_IO},
    };
    struct vfs_file *file = create("a");

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        calls.write_errno = rows[i].number;
        errno = 0;
        assert_err(rows[i].err, write_at(file, 0, "x", 1));
        assert_int_equal(errno, rows[i].number);
        calls.fallocate_errno = rows[i].number;
        errno = 0;
        assert_err(rows[i].err, vfs_reserve(file, 4096));
        assert_int_equal(errno, rows[i].number);
        calls.fdatasync_errno = rows[i].number;
        errno = 0;
        assert_err(rows[i].err, vfs_sync(file));
        assert_int_equal(errno, rows[i].number);
    }
    vfs_close(file);
}

static void a_failed_sync_is_not_tried_again(void **state)
{
    struct vfs_file *file = create("a");

    (void)state;
    assert_ok(vfs_sync(file));
    assert_int_equal(calls.n_fdatasync, 1);
    calls.fdatasync_errno = EINTR;
    assert_err(ERR_IO, vfs_sync(file));
    assert_int_equal(calls.n_fdatasync, 2);
    vfs_close(file);
}

static void check_reserve(void)
{
    static const char zeros[300000];
    struct vfs_file *file = create("reserved");
    char path[PATH_BYTES];
    struct stat status;

    assert_ok(vfs_reserve(file, 0));
    assert_int_equal(size_of(file), 0);
    assert_ok(write_at(file, 0, "begin", 5));
    assert_ok(vfs_reserve(file, 3)); /* less than there is */
    assert_int_equal(size_of(file), 5);
    assert_ok(vfs_reserve(file, sizeof zeros));
    assert_int_equal(size_of(file), sizeof zeros);
    assert_content(file, 0, "begin", 5);
    assert_content(file, 5, zeros, sizeof zeros - 5);
    path_of("reserved", path);
    assert_int_equal(stat(path, &status), 0);
    assert_true(status.st_blocks * 512 >= (off_t)sizeof zeros - 4096);
    vfs_close(file);
    assert_ok(vfs_unlink(dir, "reserved"));
}

static void reserving_keeps_what_is_there_and_adds_zeros(void **state)
{
    (void)state;
    check_reserve();
    calls.interrupted = 2;
    check_reserve();
}

static void reserving_writes_zeros_where_the_file_system_cannot(void **state)
{
    (void)state;
    calls.fallocate_errno = EOPNOTSUPP;
    check_reserve();
    assert_true(calls.n_write_calls > 1);
}

static void rename_replaces_and_unlink_removes(void **state)
{
    struct vfs_file *a = create("a");
    struct vfs_file *b = create("b");
    struct vfs_file *file;

    (void)state;
    assert_ok(write_at(a, 0, "A", 1));
    assert_ok(write_at(b, 0, "B", 1));
    assert_ok(vfs_rename(dir, "a", "b"));
    assert_err(ERR_NOT_FOUND, vfs_open(dir, "a", VFS_READ, &file));
    assert_ok(vfs_open(dir, "b", VFS_READ, &file));
    assert_content(file, 0, "A", 1);
    vfs_close(file);
    assert_content(b, 0, "B", 1); /* who has it open keeps it */
    assert_err(ERR_NOT_FOUND, vfs_rename(dir, "a", "b"));

    assert_ok(vfs_unlink(dir, "b"));
    assert_err(ERR_NOT_FOUND, vfs_unlink(dir, "b"));
    assert_err(ERR_NOT_FOUND, vfs_open(dir, "b", VFS_READ, &file));
    assert_content(a, 0, "A", 1);
    assert_ok(vfs_dir_sync(dir));
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
    assert_ok(vfs_unlink(dir, name));
    return true;
}

static void lists_every_name_once_until_told_to_stop(void **state)
{
    struct seen seen = {.most = UINT_MAX};

    (void)state;
    assert_ok(vfs_dir_list(dir, note_name, &seen));
    assert_int_equal(seen.total, 0);
    vfs_close(create("a"));
    vfs_close(create("b"));
    vfs_close(create("c"));
    for (unsigned round = 1; round <= 2; round++) {
        assert_ok(vfs_dir_list(dir, note_name, &seen));
        assert_int_equal(seen.total, 3 * round);
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(seen.names[i], round);
        }
    }
    seen = (struct seen){.most = 2};
    assert_ok(vfs_dir_list(dir, note_name, &seen));
    assert_int_equal(seen.total, 2);

    /* what it is told of may be removed on the way */
    assert_ok(vfs_dir_list(dir, remove_name, NULL));
    seen = (struct seen){.most = UINT_MAX};
    assert_ok(vfs_dir_list(dir, note_name, &seen));
    assert_int_equal(seen.total, 0);
}

static void a_map_shows_the_bytes_and_outlives_file_and_name(void **state)
{
    enum { SIZE = 3 * 4096 + 100 };
    unsigned char *data = malloc(SIZE);
    struct vfs_file *file = create("a");
    const void *map;

    (void)state;
    assert_non_null(data);
    pattern_fill(bytes_of_text("a"), 1, data, SIZE);
    assert_ok(write_at(file, 0, data, SIZE));
    vfs_advise(file, 0, SIZE, VFS_ADVICE_SEQUENTIAL);
    assert_ok(vfs_map(file, SIZE, &map));
    vfs_close(file);
    assert_ok(vfs_unlink(dir, "a"));
    assert_memory_equal(map, data, SIZE);
    vfs_unmap(vfs_posix(), map, SIZE);
    free(data);
}

static void advice_changes_nothing(void **state)
{
    struct vfs_file *file = create("a");

    (void)state;
    assert_ok(write_at(file, 0, "abc", 3));
    vfs_advise(file, 0, 3, VFS_ADVICE_DONTNEED);
    vfs_advise(file, 0, 3, VFS_ADVICE_SEQUENTIAL);
    assert_content(file, 0, "abc", 3);
    vfs_close(file);
    vfs_close(NULL);
    vfs_dir_close(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_missing_directory_is_made_only_on_demand),
        TEST(a_file_is_no_directory),
        TEST(the_lock_keeps_everybody_else_out_until_it_is_closed),
        TEST(create_wants_a_new_name_and_the_others_an_old_one),
        TEST(a_symbolic_link_is_not_followed),
        TEST(descriptors_are_not_inherited),
        TEST(reading_stops_at_the_end_of_the_file),
        TEST(writes_all_parts_also_more_than_one_call_takes),
        TEST(continues_short_and_interrupted_calls),
        TEST(no_parts_are_no_call),
        TEST(errors_are_told_apart_and_leave_errno),
        TEST(a_failed_sync_is_not_tried_again),
        TEST(reserving_keeps_what_is_there_and_adds_zeros),
        TEST(reserving_writes_zeros_where_the_file_system_cannot),
        TEST(rename_replaces_and_unlink_removes),
        TEST(lists_every_name_once_until_told_to_stop),
        TEST(a_map_shows_the_bytes_and_outlives_file_and_name),
        TEST(advice_changes_nothing),
    };

    (void)umask(022);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
