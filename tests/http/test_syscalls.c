/* What requests cost in system calls: a GET of a small key on a connection that is kept makes
 * three, it is waited for, read and answered; and writes that were synced together wake the thread
 * that answers them once. strace counts; without it the program exits with 77. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/http/fixture.h"
#include "tests/support/temp_dir.h"

enum { GETS = 1000, CALLS_EACH = 3, SLACK = 60, PUTS = 64, ROUNDS = 10, SKIPPED = 77 };

static pid_t start_strace(const struct server *server, const char *path)
{
    char pid[16];
    (void)snprintf(pid, sizeof pid, "%d", (int)server_pid(server));
    pid_t strace = fork();
    if (strace == 0) {
        execlp("strace", "strace", "-f", "-o", path, "-p", pid, (char *)NULL);
        _exit(SKIPPED);
    }
    return strace;
}

/* What a line of strace is about: "PID call(…". Calls that were interrupted by another thread's
 * come as two. */
static bool is_call(const char *line)
{
    return strstr(line, "resumed>") == NULL && strstr(line, "getsockopt(") == NULL;
}

/* The thread that answers; 0: it hasn't yet. */
static long answering_thread(const char *path)
{
    char line[4096];
    long thread = 0;
    FILE *file = fopen(path, "r");
    while (file != NULL && thread == 0 && fgets(line, sizeof line, file) != NULL) {
        thread = strstr(line, "sendmsg(") != NULL ? strtol(line, NULL, 10) : 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return thread;
}

/* Others have work of their own. */
static unsigned long count_calls(const char *path, long thread)
{
    char line[4096];
    unsigned long n = 0;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        n += is_call(line) && strtol(line, NULL, 10) == thread;
    }
    fclose(file);
    return n;
}

static void get(int fd)
{
    raw_send(fd, "GET /kv/small HTTP/1.1\r\nHost: localhost\r\n\r\n");
    struct reply reply = raw_reply(fd);
    assert_status(&reply, 200);
    reply_free(&reply);
}

static void expect_three_calls(const struct fixture *fixture)
{
    char dir[TEMP_DIR_BYTES], path[TEMP_DIR_BYTES + 8];
    temp_dir_make(dir);
    (void)snprintf(path, sizeof path, "%s/calls", dir);
    int fd = raw_connect(fixture->server);
    get(fd);
    pid_t strace = start_strace(fixture->server, path);
    /* It has attached to the thread that serves us when it has seen a whole request. */
    long thread;
    while ((thread = answering_thread(path)) == 0) {
        int status;
        assert_int_equal(waitpid(strace, &status, WNOHANG), 0);
        get(fd);
    }
    unsigned long before = count_calls(path, thread);
    for (int i = 0; i < GETS; i++) {
        get(fd);
    }
    kill(strace, SIGINT);
    assert_int_equal(waitpid(strace, NULL, 0), strace);
    unsigned long calls = count_calls(path, thread) - before;
    assert_in_range(calls, CALLS_EACH * GETS - SLACK, CALLS_EACH * GETS + SLACK);
    close(fd);
    temp_dir_remove(dir);
}

static void a_get_of_a_small_key_makes_three_system_calls(void **state)
{
    const struct fixture *fixture = *state;
    expect_status(fixture->client, 201, "PUT", "/kv/small", NULL, "small");
    expect_three_calls(fixture);
}

/* Once it was read: before, the kernel is asked whether it is in memory. */
static void so_does_one_in_a_table(void **state)
{
    const struct fixture *fixture = *state;
    expect_status(fixture->client, 204, "POST", "/admin/flush", NULL, NULL);
    expect_three_calls(fixture);
}

static void put(int fd, int number)
{
    char request[128];
    (void)snprintf(request, sizeof request,
                   "PUT /kv/group/%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx",
                   number);
    raw_send(fd, request);
}

/* How often threads of the server were woken up through an eventfd that nobody reads: the only ones
 * that still count. */
static unsigned long count_wake_ups(const struct server *server)
{
    char path[64], line[128];
    unsigned long wakes = 0, n;
    for (int fd = 0; fd < 64; fd++) {
        (void)snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", (int)server_pid(server), fd);
        FILE *file = fopen(path, "r");
        while (file != NULL && fgets(line, sizeof line, file) != NULL) {
            wakes += sscanf(line, "eventfd-count: %lx", &n) == 1 ? n : 0;
        }
        if (file != NULL) {
            fclose(file);
        }
    }
    return wakes;
}

/* Many writes are sent at once, again and again: the first of them is synced alone, the others
 * together. A thread may wake up and take some while more are put there: that costs another. */
static void writes_of_a_group_are_answered_with_one_wake_up(void **state)
{
    const struct fixture *fixture = *state;
    int fds[PUTS];
    for (int i = 0; i < PUTS; i++) {
        fds[i] = raw_connect(fixture->server);
    }
    unsigned long wakes = count_wake_ups(fixture->server);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < PUTS; i++) {
            put(fds[i], i);
        }
        for (int i = 0; i < PUTS; i++) {
            struct reply reply = raw_reply(fds[i]);
            assert_status(&reply, round == 0 ? 201 : 204);
            reply_free(&reply);
        }
    }
    wakes = count_wake_ups(fixture->server) - wakes;
    for (int i = 0; i < PUTS; i++) {
        close(fds[i]);
    }
    printf("%d writes, %lu wake-ups\n", ROUNDS * PUTS, wakes);
    assert_in_range(wakes, 1, ROUNDS * PUTS / 2);
}

int main(void)
{
    if (system("strace -V >/dev/null 2>&1 && strace -o /dev/null true") != 0) {
        fputs("strace is not installed, or may not trace here\n", stderr);
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_get_of_a_small_key_makes_three_system_calls),
        cmocka_unit_test(so_does_one_in_a_table),
        cmocka_unit_test(writes_of_a_group_are_answered_with_one_wake_up),
    };
    return cmocka_run_group_tests(tests, group_start, group_stop);
}
