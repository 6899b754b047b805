/* `varve salvage DIR OUT` where OUT has little room, on file systems of every size: it says so in
 * one line and leaves DIR as it is and OUT as it was, or it copies everything. Mounting takes root;
 * otherwise the program exits with 77. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/crc32c.h"
#include "tests/crash/dir_check.h"
#include "tests/http/support.h"
#include "tests/support/check.h"
#include "tests/support/pattern.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

enum { SKIPPED = 77, KEYS = 100, PUTS = 500, VALUE_BYTES = 40000, KEY_BYTES = 32 };
enum { PAGE_BYTES = 4096, ENOUGH_PAGES = 16384, COMMAND_BYTES = 2000, OUTPUT_BYTES = 4000 };

static const char *const arguments[] = {"--memtable-bytes",
                                        "256KiB",
                                        "--max-value-bytes",
                                        "512KiB",
                                        "--max-inflight-bytes",
                                        "1MiB",
                                        NULL};

struct test {
    char dir[TEMP_DIR_BYTES], mount[TEMP_DIR_BYTES], out[TEMP_DIR_BYTES + 8];
    uint64_t versions[KEYS]; /* of the values; 0: not there */
    size_t sizes[KEYS];
    uint32_t digest; /* of DIR */
    unsigned refused;
};

static struct bytes key_of(unsigned i, char path[KEY_BYTES])
{
    (void)snprintf(path, KEY_BYTES, "/kv/key-%03u", i);
    return bytes_of_text(path + strlen("/kv/"));
}

/* --- DIR --- */

/* A store that was killed has its last writes in the log only, one that was stopped all in tables.
 */
static void make_store(struct test *test, bool killed)
{
    static char value[VALUE_BYTES];
    struct prng prng;
    char path[KEY_BYTES];
    prng_init(&prng, test_seed());
    struct server *server = server_start_in(test->dir, arguments);
    struct client *client = client_new(server);
    for (uint64_t version = 1; version <= PUTS; version++) {
        unsigned i = (unsigned)prng_below(&prng, KEYS);
        struct bytes key = key_of(i, path);
        bool deletes = prng_chance(&prng, 20);
        size_t most = prng_chance(&prng, 50) ? VALUE_BYTES : 300;
        test->sizes[i] = PATTERN_VERSION_BYTES + prng_below(&prng, most - PATTERN_VERSION_BYTES);
        pattern_fill(key, version, value, test->sizes[i]);
        struct reply reply = deletes
                                 ? client_delete(client, path)
                                 : client_send(client, "PUT", path, NULL, value, test->sizes[i]);
        assert_in_range(reply.status, 201, 204);
        reply_free(&reply);
        test->versions[i] = deletes ? 0 : version;
    }
    client_free(client);
    server_signal(server, killed ? SIGKILL : SIGTERM);
    assert_int_equal(server_wait(server, NULL), killed ? 128 + SIGKILL : 0);
}

static uint32_t digest_of_file(int dir, const char *name, uint32_t digest)
{
    static char bytes[1 << 16];
    struct stat about;
    ssize_t n;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &about), 0);
    digest = crc32c(digest, name, strlen(name));
    digest = crc32c(digest, &about.st_mtim, sizeof about.st_mtim);
    while ((n = read(fd, bytes, sizeof bytes)) > 0) {
        digest = crc32c(digest, bytes, (size_t)n);
    }
    assert_int_equal(n, 0);
    close(fd);
    return digest;
}

/* Of names, bytes and times of all files of a directory; 0: it has none. */
static uint32_t digest_of(const char *path)
{
    struct dirent **entries;
    uint32_t digest = 0;
    int n = scandir(path, &entries, NULL, alphasort);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(n >= 0 && dir >= 0);
    for (int i = 0; i < n; i++) {
        if (entries[i]->d_name[0] != '.') {
            digest = digest_of_file(dir, entries[i]->d_name, digest);
        }
        free(entries[i]);
    }
    free(entries);
    close(dir);
    return digest;
}

/* --- OUT --- */

static void set_pages(const struct test *test, size_t pages, unsigned long flags)
{
    char option[32];
    (void)snprintf(option, sizeof option, "size=%zu", pages * PAGE_BYTES);
    assert_int_equal(mount("varve-test", test->mount, "tmpfs", flags, option), 0);
}

/* So that the next attempt may go there. */
static bool is_empty_or_missing(const char *path)
{
    return access(path, F_OK) != 0 || digest_of(path) == 0;
}

/* What it says on its standard error, or with `all` also on the other. */
static int salvage(const struct test *test, bool all, char output[OUTPUT_BYTES])
{
    char command[COMMAND_BYTES];
    const char *program = getenv("VARVE");
    assert_non_null(program);
    int length = snprintf(command, sizeof command, "'%s' salvage '%s' '%s' 2>&1 >%s", program,
                          test->dir, test->out, all ? "&1" : "/dev/null");
    assert_in_range(length, 1, COMMAND_BYTES - 1);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    output[fread(output, 1, OUTPUT_BYTES - 1, pipe)] = '\0';
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Whether that many pages are enough. */
static bool fits(struct test *test, size_t pages)
{
    char output[OUTPUT_BYTES], expected[OUTPUT_BYTES];
    set_pages(test, pages, MS_REMOUNT);
    int status = salvage(test, false, output);
    assert_int_equal(digest_of(test->dir), test->digest);
    if (status == 0) {
        assert_string_equal(output, "");
        check_dir_in_order(test->out, true);
        temp_dir_remove(test->out);
        return true;
    }
    assert_int_equal(status, 1);
    (void)snprintf(expected, sizeof expected,
                   "varve salvage: cannot write to %s: no space left on the device\n", test->out);
    assert_string_equal(output, expected);
    assert_true(is_empty_or_missing(test->out));
    test->refused++;
    return false;
}

/* --- Tests --- */

static void expect_everything(const struct test *test)
{
    char path[KEY_BYTES];
    struct server *server = server_start_in(test->out, arguments);
    struct client *client = client_new(server);
    for (unsigned i = 0; i < KEYS; i++) {
        struct bytes key = key_of(i, path);
        struct reply reply = client_get(client, path);
        assert_int_equal(reply.status, test->versions[i] != 0 ? 200 : 404);
        if (test->versions[i] != 0) {
            assert_int_equal(reply.size, test->sizes[i]);
            assert_true(pattern_matches(key, test->versions[i], bytes_of(reply.body, reply.size)));
        }
        reply_free(&reply);
    }
    client_free(client);
    server_stop(server);
}

static void salvage_to_any_size(bool killed)
{
    struct test test = {.refused = 0};
    char output[OUTPUT_BYTES];
    temp_dir_make(test.dir);
    temp_dir_make(test.mount);
    (void)snprintf(test.out, sizeof test.out, "%s/out", test.mount);
    make_store(&test, killed);
    test.digest = digest_of(test.dir);
    set_pages(&test, ENOUGH_PAGES, 0);

    size_t too_few = 1, enough = ENOUGH_PAGES; /* to be halved until they are neighbours */
    assert_false(fits(&test, too_few));
    while (enough - too_few > 1) {
        size_t pages = too_few + (enough - too_few) / 2;
        *(fits(&test, pages) ? &enough : &too_few) = pages;
    }
    struct prng prng;
    prng_init(&prng, test_seed());
    for (unsigned i = 0; i < 10; i++) {
        assert_false(fits(&test, 1 + prng_below(&prng, too_few)));
    }
    set_pages(&test, enough, MS_REMOUNT);
    assert_int_equal(salvage(&test, true, output), 0);
    assert_non_null(strstr(output, "nothing is lost"));
    assert_int_equal(digest_of(test.dir), test.digest);
    printf("%zu KiB were enough, %u smaller disks were not\n", enough * PAGE_BYTES / 1024,
           test.refused);
    set_pages(&test, ENOUGH_PAGES, MS_REMOUNT);
    expect_everything(&test);
    assert_int_equal(umount2(test.mount, MNT_DETACH), 0);
    temp_dir_remove(test.mount);
    temp_dir_remove(test.dir);
}

static void salvages_nothing_or_everything_whatever_the_room(void **state)
{
    (void)state;
    salvage_to_any_size(true);
}

/* Then the manifest, too, comes to where there is no room. */
static void and_so_does_it_where_the_log_is_empty(void **state)
{
    (void)state;
    salvage_to_any_size(false);
}

int main(void)
{
    /* Mounts of its own, which go with the process. */
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        fputs("mounting a small file system takes root\n", stderr);
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(salvages_nothing_or_everything_whatever_the_room),
        cmocka_unit_test(and_so_does_it_where_the_log_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
