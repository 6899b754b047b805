/* Reads of mapped pages that are gone: under a guard they come back, elsewhere they end the
 * process. */
#include "store/base/sigbus.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/crc32c.h"
#include "tests/support/check.h"

enum { PAGES = 4 };

static size_t page_bytes;

/* A mapped file whose pages from `good_pages` on are gone. */
static const unsigned char *map_cut(unsigned good_pages)
{
    int fd = memfd_create("cut", MFD_CLOEXEC);
    unsigned char *data;

    /* cmocka has taken the signal for itself at the begin of the test. */
    sigbus_install();
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)(PAGES * page_bytes)), 0);
    data = mmap(NULL, PAGES * page_bytes, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(data != MAP_FAILED);
    assert_int_equal(ftruncate(fd, (off_t)(good_pages * page_bytes)), 0);
    assert_int_equal(close(fd), 0);
    return data;
}

static void unmap(const unsigned char *data)
{
    assert_int_equal(munmap((void *)data, PAGES * page_bytes), 0);
}

/* A read that the compiler leaves in its place. */
static unsigned char touch(const unsigned char *at)
{
    return *(const volatile unsigned char *)at;
}

/* True if the byte could be read under a guard for [data, data + size). */
static bool reads(const unsigned char *data, size_t size, const unsigned char *at)
{
    struct sigbus_guard guard;

    if (sigbus_guard_enter(&guard, data, size)) {
        (void)touch(at);
        sigbus_guard_leave(&guard);
        return true;
    }
    return false;
}

static void a_page_that_is_gone_comes_back_as_false(void **state)
{
    const unsigned char *data = map_cut(1);

    (void)state;
    assert_true(reads(data, PAGES * page_bytes, data));
    assert_true(reads(data, PAGES * page_bytes, data + page_bytes - 1));
    assert_false(reads(data, PAGES * page_bytes, data + page_bytes));
    assert_false(reads(data, PAGES * page_bytes, data + PAGES * page_bytes - 1));
    assert_true(reads(data, PAGES * page_bytes, data));
    unmap(data);
}

static atomic_uint earlier_handler_calls;

static void earlier_handler(int number)
{
    (void)number;
    atomic_fetch_add(&earlier_handler_calls, 1);
}

static void installing_twice_keeps_the_handler_that_was_there_before(void **state)
{
    const unsigned char *data;

    (void)state;
    (void)signal(SIGBUS, earlier_handler);
    data = map_cut(0);
    sigbus_install();
    assert_false(reads(data, 1, data));
    assert_int_equal(raise(SIGBUS), 0); /* for nobody here; put back for the one before */
    assert_int_equal(atomic_load(&earlier_handler_calls), 1);
    unmap(data);
}

static void a_checksum_over_a_missing_page_comes_back(void **state)
{
    const unsigned char *data = map_cut(2);
    volatile bool readable = true;
    struct sigbus_guard guard;

    (void)state;
    if (sigbus_guard_enter(&guard, data, PAGES * page_bytes)) {
        (void)crc32c(0, data, PAGES * page_bytes);
        sigbus_guard_leave(&guard);
    } else {
        readable = false;
    }
    assert_false(readable);
    unmap(data);
}

static void the_second_fault_is_caught_like_the_first_and_the_mask_stays(void **state)
{
    const unsigned char *data = map_cut(0);
    sigset_t before, after;

    (void)state;
    assert_int_equal(sigemptyset(&before), 0);
    assert_int_equal(sigaddset(&before, SIGUSR1), 0);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    for (int i = 0; i < 1000; i++) {
        assert_false(reads(data, 1, data));
    }
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
    for (int number = 1; number < 32; number++) {
        assert_int_equal(sigismember(&after, number), number == SIGUSR1);
    }
    assert_int_equal(sigemptyset(&before), 0);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    unmap(data);
}

static void the_innermost_guard_with_the_address_is_taken(void **state)
{
    const unsigned char *outer_data = map_cut(0);
    const unsigned char *inner_data = map_cut(0);
    struct sigbus_guard outer, inner;
    volatile int inner_jumps = 0;
    volatile int outer_jumps = 0;

    (void)state;
    if (sigbus_guard_enter(&outer, outer_data, page_bytes)) {
        if (sigbus_guard_enter(&inner, inner_data, page_bytes)) {
            (void)touch(inner_data);
            fail_msg("read what isn't there");
        } else {
            inner_jumps++;
        }
        /* the outer one is armed still, also from within a new inner one */
        if (sigbus_guard_enter(&inner, inner_data, page_bytes)) {
            (void)touch(outer_data);
            fail_msg("read what isn't there");
        } else {
            inner_jumps++;
        }
        fail_msg("the outer guard was not taken");
    } else {
        outer_jumps++;
    }
    assert_int_equal(inner_jumps, 1);
    assert_int_equal(outer_jumps, 1);
    unmap(outer_data);
    unmap(inner_data);
}

/* A vector load may begin before the range's first byte; its page is the same. */
static void a_range_counts_up_to_the_edges_of_its_pages(void **state)
{
    const unsigned char *data = map_cut(0);
    const unsigned char *page = data + page_bytes;

    (void)state;
    assert_false(reads(page + 100, 10, page));
    assert_false(reads(page + 100, 10, page + page_bytes - 1));
    unmap(data);
}

static void *fault_often(void *arg)
{
    const unsigned char *data = arg;

    for (int i = 0; i < 300; i++) {
        bool readable = reads(data, PAGES * page_bytes, data + page_bytes);
        assert(!readable);
        readable = reads(data, PAGES * page_bytes, data);
        assert(readable);
    }
    return NULL;
}

static void threads_have_guards_of_their_own(void **state)
{
    const unsigned char *data = map_cut(1);
    pthread_t threads[4];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, fault_often, (void *)data), 0);
    }
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    unmap(data);
}

/* True if a child that does so dies: by SIGBUS, or by the report of a sanitizer that was there
 * first. */
static bool kills_the_process(void (*run)(const unsigned char *data), const unsigned char *data)
{
    const struct rlimit no_core = {0, 0};
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(null, STDERR_FILENO);
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGBUS, SIG_DFL); /* not back to cmocka */
        sigbus_install();
        run(data);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return (WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS) ||
           (WIFEXITED(status) && WEXITSTATUS(status) != 0);
}

static void touch_without_a_guard(const unsigned char *data)
{
    (void)touch(data);
}

static void touch_beside_the_range(const unsigned char *data)
{
    (void)reads(data, page_bytes, data + page_bytes);
}

static void touch_after_leaving(const unsigned char *data)
{
    struct sigbus_guard guard;

    if (sigbus_guard_enter(&guard, data, page_bytes)) {
        sigbus_guard_leave(&guard);
        (void)touch(data);
    }
}

static void touch_with_an_empty_range(const unsigned char *data)
{
    (void)reads(data, 0, data);
}

static void send_the_signal(const unsigned char *data)
{
    struct sigbus_guard guard;

    (void)data;
    /* the sender's number looks like an address: all of them are guarded */
    if (sigbus_guard_enter(&guard, NULL, SIZE_MAX)) {
        (void)raise(SIGBUS);
        sigbus_guard_leave(&guard);
    }
}

static void a_fault_outside_every_range_ends_the_process(void **state)
{
    const unsigned char *data = map_cut(0);

    (void)state;
    assert_true(kills_the_process(touch_without_a_guard, data));
    assert_true(kills_the_process(touch_beside_the_range, data));
    assert_true(kills_the_process(touch_after_leaving, data));
    assert_true(kills_the_process(touch_with_an_empty_range, data));
    unmap(data);
}

static void a_signal_that_was_sent_ends_the_process(void **state)
{
    const unsigned char *data = map_cut(0);

    (void)state;
    assert_true(kills_the_process(send_the_signal, data));
    unmap(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_that_is_gone_comes_back_as_false),
        cmocka_unit_test(installing_twice_keeps_the_handler_that_was_there_before),
        cmocka_unit_test(a_checksum_over_a_missing_page_comes_back),
        cmocka_unit_test(the_second_fault_is_caught_like_the_first_and_the_mask_stays),
        cmocka_unit_test(the_innermost_guard_with_the_address_is_taken),
        cmocka_unit_test(a_range_counts_up_to_the_edges_of_its_pages),
        cmocka_unit_test(threads_have_guards_of_their_own),
        cmocka_unit_test(a_fault_outside_every_range_ends_the_process),
        cmocka_unit_test(a_signal_that_was_sent_ends_the_process),
    };

    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
