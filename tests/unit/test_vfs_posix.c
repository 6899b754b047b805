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
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/sigbus.h"
#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/vfs_contract.h"

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

static int make_dir(void **state)
{
    (void)state;
    memset(&calls, 0, sizeof calls);
    temp_dir_make(temp);
    contract_path = temp;
    assert_ok(vfs_dir_open(vfs_posix(), temp, false, &contract_dir));
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    memset(&calls, 0, sizeof calls);
    vfs_dir_close(contract_dir);
    temp_dir_remove(temp);
    return 0;
}

static void path_of(const char *name, char ret_path[PATH_BYTES])
{
    (void)snprintf(ret_path, PATH_BYTES, "%s/%s", temp, name);
}

static void directories_and_files_are_for_their_owner_alone(void **state)
{
    char path[PATH_BYTES];
    struct vfs_dir *made;
    struct stat status;

    (void)state;
    path_of("data", path);
    assert_ok(vfs_dir_open(vfs_posix(), path, true, &made));
    vfs_dir_close(made);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode, S_IFDIR | 0700);

    vfs_close(contract_create("a"));
    path_of("a", path);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode, S_IFREG | 0600);
}

static void only_the_last_part_of_a_path_is_made(void **state)
{
    char path[PATH_BYTES];
    struct vfs_dir *made;

    (void)state;
    path_of("neither/nor", path);
    assert_err(ERR_NOT_FOUND, vfs_dir_open(vfs_posix(), path, true, &made));
}

static void the_lock_keeps_other_processes_out(void **state)
{
    pid_t child;
    int status;

    (void)state;
    assert_ok(vfs_dir_lock(contract_dir));
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct vfs_dir *own;
        bool kept_out = vfs_dir_open(vfs_posix(), temp, false, &own) == ERR_OK &&
                        vfs_dir_lock(own) == ERR_LOCKED;
        _exit(kept_out ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void a_file_is_no_directory(void **state)
{
    char path[PATH_BYTES];
    struct vfs_dir *opened;

    (void)state;
    vfs_close(contract_create("file"));
    path_of("file", path);
    assert_err(ERR_IO, vfs_dir_open(vfs_posix(), path, true, &opened));
    assert_int_equal(errno, ENOTDIR);
}

static void a_symbolic_link_is_not_followed(void **state)
{
    char path[PATH_BYTES];
    struct vfs_file *file;

    (void)state;
    vfs_close(contract_create("target"));
    path_of("link", path);
    assert_int_equal(symlink("target", path), 0);
    assert_err(ERR_IO, vfs_open(contract_dir, "link", VFS_READ, &file));
    assert_int_equal(errno, ELOOP);
}

static void descriptors_are_not_inherited(void **state)
{
    struct vfs_file *file = contract_create("a");
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

static void continues_short_and_interrupted_calls(void **state)
{
    struct prng prng;

    (void)state;
    prng_init(&prng, test_seed());
    for (int round = 0; round < 50; round++) {
        calls.most_bytes = 1 + prng_below(&prng, 100);
        calls.interrupted = 3;
        contract_write_parts(&prng, prng_below(&prng, 20), 200);
    }
}

static void no_parts_are_no_call(void **state)
{
    const struct iovec parts[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    struct vfs_file *file = contract_create("a");

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
    struct vfs_file *file = contract_create("a");

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        calls.write_errno = rows[i].number;
        errno = 0;
        assert_err(rows[i].err, contract_write(file, 0, "x", 1));
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
    struct vfs_file *file = contract_create("a");

    (void)state;
    assert_ok(vfs_sync(file));
    assert_int_equal(calls.n_fdatasync, 1);
    calls.fdatasync_errno = EINTR;
    assert_err(ERR_IO, vfs_sync(file));
    assert_int_equal(calls.n_fdatasync, 2);
    vfs_close(file);
}

/* Pages of the file that are in the page cache. */
static size_t cached_pages(const char *path, size_t n_pages)
{
    unsigned char resident[1024];
    size_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *map = mmap(NULL, n_pages * 4096, PROT_READ, MAP_SHARED, fd, 0);

    assert_true(map != MAP_FAILED && n_pages <= sizeof resident);
    assert_int_equal(mincore(map, n_pages * 4096, resident), 0);
    for (size_t i = 0; i < n_pages; i++) {
        n += resident[i] & 1;
    }
    munmap(map, n_pages * 4096);
    close(fd);
    return n;
}

static void read_directly(const char *name, size_t size)
{
    static _Alignas(VFS_DIRECT_ALIGN) uint8_t bytes[64 * 4096];
    struct vfs_file *file;
    size_t n;

    assert_ok(vfs_open(contract_dir, name, VFS_READ_DIRECT, &file));
    vfs_advise(file, 0, size, VFS_ADVICE_SEQUENTIAL);
    assert_ok(vfs_read(file, 0, bytes, size, &n));
    assert_int_equal(n, size);
    vfs_advise(file, 0, size, VFS_ADVICE_DONTNEED);
    vfs_close(file);
}

static void direct_reads_leave_the_page_cache_as_it_is(void **state)
{
    enum { PAGES = 8, SIZE = PAGES * 4096 };
    static uint8_t bytes[SIZE];
    struct vfs_file *file = contract_create("a");
    char path[PATH_BYTES];

    (void)state;
    path_of("a", path);
    assert_ok(contract_write(file, 0, bytes, SIZE));
    assert_ok(vfs_sync(file));
    int probe = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (probe < 0) {
        vfs_close(file);
        print_message("no direct reads in %s\n", temp);
        return; /* the contract's test has seen that others are */
    }
    close(probe);
    assert_int_equal(cached_pages(path, PAGES), PAGES);
    read_directly("a", SIZE);
    assert_int_equal(cached_pages(path, PAGES), PAGES);
    vfs_advise(file, 0, SIZE, VFS_ADVICE_DONTNEED);
    if (cached_pages(path, PAGES) == 0) { /* it is only advice */
        read_directly("a", SIZE);
        assert_int_equal(cached_pages(path, PAGES), 0);
    }
    vfs_close(file);
}

/* Asks for it until it has happened. False where there is nothing but memory, as on tmpfs. */
static bool evict(struct vfs_file *file, const void *map, size_t pages)
{
    char path[PATH_BYTES];
    struct statfs where;

    path_of("a", path);
    assert_int_equal(statfs(path, &where), 0);
    while (where.f_type != TMPFS_MAGIC && cached_pages(path, pages) > 0) {
        assert_int_equal(madvise((void *)map, pages * 4096, MADV_DONTNEED), 0);
        vfs_advise(file, 0, pages * 4096, VFS_ADVICE_DONTNEED);
    }
    return where.f_type != TMPFS_MAGIC;
}

static void a_map_knows_what_has_left_memory(void **state)
{
    enum { PAGES = 700, SIZE = PAGES * 4096 };
    static const size_t begins[] = {0, 1, 4095, 4096, 512 * 1024, SIZE - 1};
    const struct vfs *vfs = vfs_posix();
    struct vfs_file *file = contract_create("a");
    char *data = calloc(1, SIZE);
    const void *mapped;

    (void)state;
    assert_non_null(data);
    sigbus_install();
    assert_ok(contract_write(file, 0, data, SIZE));
    assert_ok(vfs_sync(file));
    assert_ok(vfs_map(file, SIZE, &mapped));
    const char *map = mapped;
    for (size_t i = 0; i < COUNT_OF(begins); i++) {
        size_t begin = begins[i];
        bool evicted = evict(file, map, PAGES);
        assert_int_equal(vfs_resident(vfs, map + begin, SIZE - begin), !evicted);
        assert_int_equal(vfs_resident(vfs, map + begin, 1), !evicted);
        assert_ok(vfs_populate(vfs, map + begin, SIZE - begin));
        assert_true(vfs_resident(vfs, map + begin, SIZE - begin));
        if (evicted && begin == SIZE - 1) {
            assert_false(vfs_resident(vfs, map, SIZE)); /* the others are still missing */
        }
    }
    vfs_unmap(vfs, map, SIZE);
    assert_true(vfs_resident(vfs, map, SIZE)); /* the kernel says that there is no map */
    vfs_close(file);
    free(data);
}

static void bytes_that_can_not_be_read_can_not_be_populated(void **state)
{
    enum { PAGES = 8 };
    const struct vfs *vfs = vfs_posix();
    struct vfs_file *file = contract_create("a");
    char path[PATH_BYTES];
    const void *mapped;

    (void)state;
    sigbus_install();
    assert_ok(vfs_reserve(file, (uint64_t)PAGES * 4096));
    assert_ok(vfs_map(file, (size_t)PAGES * 4096, &mapped));
    const char *map = mapped;
    path_of("a", path);
    assert_int_equal(truncate(path, (off_t)5 * 4096), 0);
    assert_false(vfs_resident(vfs, map, (size_t)PAGES * 4096));
    errno = 0;
    assert_err(ERR_IO, vfs_populate(vfs, map, (size_t)PAGES * 4096));
    assert_int_equal(errno, EIO);
    assert_ok(vfs_populate(vfs, map, (size_t)5 * 4096));
    vfs_unmap(vfs, map, (size_t)PAGES * 4096);
    vfs_close(file);
}

static void what_is_reserved_has_blocks(void **state)
{
    struct vfs_file *file = contract_create("a");
    char path[PATH_BYTES];
    struct stat status;

    (void)state;
    calls.interrupted = 2;
    assert_ok(vfs_reserve(file, 300000));
    path_of("a", path);
    assert_int_equal(stat(path, &status), 0);
    assert_true(status.st_blocks * 512 >= 300000);
    vfs_close(file);
}

static void reserving_writes_zeros_where_the_file_system_cannot(void **state)
{
    (void)state;
    calls.fallocate_errno = EOPNOTSUPP;
    contract_reserve();
    assert_true(calls.n_write_calls > 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VFS_CONTRACT_TESTS(TEST),
        TEST(directories_and_files_are_for_their_owner_alone),
        TEST(only_the_last_part_of_a_path_is_made),
        TEST(the_lock_keeps_other_processes_out),
        TEST(a_file_is_no_directory),
        TEST(a_symbolic_link_is_not_followed),
        TEST(descriptors_are_not_inherited),
        TEST(continues_short_and_interrupted_calls),
        TEST(no_parts_are_no_call),
        TEST(errors_are_told_apart_and_leave_errno),
        TEST(a_failed_sync_is_not_tried_again),
        TEST(direct_reads_leave_the_page_cache_as_it_is),
        TEST(a_map_knows_what_has_left_memory),
        TEST(bytes_that_can_not_be_read_can_not_be_populated),
        TEST(what_is_reserved_has_blocks),
        TEST(reserving_writes_zeros_where_the_file_system_cannot),
    };

    (void)umask(022);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
