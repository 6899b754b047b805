/* A process that runs `varve serve`, and a thread that reads its log. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/http/support.h"
#include "tests/support/check.h"
#include "tests/support/temp_dir.h"

enum { ARGUMENTS_MAX = 40 };

struct server {
    pid_t pid;
    int log_fd;
    bool own_dir;
    char dir[TEMP_DIR_BYTES];
    char url[100];
    uint16_t port;

    pthread_t reader;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    char *log; /* NUL-terminated */
    size_t log_size;
    bool log_ended;
};

static const char *const sanitizer_marks[] = {"Sanitizer:", "runtime error:"};

/* --- The log --- */

static void append_log(struct server *server, const char *bytes, size_t size)
{
    pthread_mutex_lock(&server->lock);
    char *longer = realloc(server->log, server->log_size + size + 1);
    if (longer == NULL) {
        abort();
    }
    server->log = longer;
    memcpy(server->log + server->log_size, bytes, size);
    server->log_size += size;
    server->log[server->log_size] = '\0';
    server->log_ended = size == 0;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

static void *read_log(void *arg)
{
    struct server *server = arg;
    char bytes[4096];
    ssize_t n;
    do {
        n = read(server->log_fd, bytes, sizeof bytes);
        append_log(server, bytes, n > 0 ? (size_t)n : 0);
    } while (n > 0);
    return NULL;
}

/* Waits for `text`, or for the end of the log where it is NULL. False: it didn't come. */
static bool wait_log(struct server *server, const char *text)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    int error = 0;
    bool found = false;
    pthread_mutex_lock(&server->lock);
    for (;;) {
        found = text != NULL ? strstr(server->log, text) != NULL : server->log_ended;
        if (found || server->log_ended || error != 0) {
            break;
        }
        error = pthread_cond_timedwait(&server->changed, &server->lock, &until);
    }
    pthread_mutex_unlock(&server->lock);
    return found;
}

void server_wait_log(struct server *server, const char *text)
{
    if (!wait_log(server, text)) {
        fail_msg("no \"%s\" in the log:\n%s", text, server->log);
    }
}

bool server_log_has(struct server *server, const char *text)
{
    pthread_mutex_lock(&server->lock);
    bool has = strstr(server->log, text) != NULL;
    pthread_mutex_unlock(&server->lock);
    return has;
}

/* --- The process --- */

static void run_program(const char *program, const char *dir, const char *const arguments[],
                        int log_fd)
{
    const char *argv[ARGUMENTS_MAX] = {program,       "serve",      "--listen",
                                       "127.0.0.1:0", "--data-dir", dir};
    size_t n = 6;
    for (size_t i = 0; arguments != NULL && arguments[i] != NULL && n + 1 < ARGUMENTS_MAX; i++) {
        argv[n++] = arguments[i];
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dup2(log_fd, STDERR_FILENO) >= 0) {
        execv(program, (char *const *)(uintptr_t)argv);
    }
    _exit(127);
}

struct server *server_spawn(const char *dir, const char *const arguments[])
{
    const char *program = getenv("VARVE");
    assert_non_null(program);
    struct server *server = calloc(1, sizeof *server);
    assert_non_null(server);
    int log_pipe[2];
    assert_int_equal(pipe2(log_pipe, O_CLOEXEC), 0);
    (void)snprintf(server->dir, sizeof server->dir, "%s", dir);
    server->log = calloc(1, 1);
    server->log_fd = log_pipe[0];
    pthread_mutex_init(&server->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    server->pid = fork();
    assert_true(server->pid >= 0);
    if (server->pid == 0) {
        run_program(program, dir, arguments, log_pipe[1]);
    }
    close(log_pipe[1]);
    assert_int_equal(pthread_create(&server->reader, NULL, read_log, server), 0);
    return server;
}

void server_wait_listening(struct server *server)
{
    server_wait_log(server, "event=listening addr=");
    server_wait_log(server, "event=recovering"); /* so that the line before is complete */
    pthread_mutex_lock(&server->lock);           /* the log moves as it grows */
    const char *address = strstr(server->log, "event=listening addr=") + 21;
    int length = (int)strcspn(address, " \n");
    int size = snprintf(server->url, sizeof server->url, "http://%.*s", length, address);
    pthread_mutex_unlock(&server->lock);
    assert_in_range(size, 1, sizeof server->url - 1);
    server->port = (uint16_t)strtoul(strrchr(server->url, ':') + 1, NULL, 10);
}

struct server *server_start_in(const char *dir, const char *const arguments[])
{
    struct server *server = server_spawn(dir, arguments);
    server_wait_listening(server);
    server_wait_log(server, "event=ready");
    return server;
}

struct server *server_start(const char *const arguments[])
{
    char dir[TEMP_DIR_BYTES];
    temp_dir_make(dir);
    struct server *server = server_start_in(dir, arguments);
    server->own_dir = true;
    return server;
}

void server_signal(struct server *server, int number)
{
    assert_int_equal(kill(server->pid, number), 0);
}

static void check_sanitizers(const char *log)
{
    for (size_t i = 0; i < COUNT_OF(sanitizer_marks); i++) {
        if (strstr(log, sanitizer_marks[i]) != NULL) {
            fail_msg("a sanitizer complained:\n%s", log);
        }
    }
}

int server_wait(struct server *server, char **ret_log)
{
    int status = 0;
    if (!wait_log(server, NULL)) {
        kill(server->pid, SIGKILL);
        fail_msg("the server does not end:\n%s", server->log);
    }
    pthread_join(server->reader, NULL);
    assert_int_equal(waitpid(server->pid, &status, 0), server->pid);
    check_sanitizers(server->log);
    if (ret_log != NULL) {
        *ret_log = server->log;
    } else {
        free(server->log);
    }
    close(server->log_fd);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    if (server->own_dir) {
        temp_dir_remove(server->dir);
    }
    free(server);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void server_stop(struct server *server)
{
    char *log = NULL;
    server_signal(server, SIGTERM);
    int status = server_wait(server, &log);
    if (status != 0) {
        fail_msg("exit status %d:\n%s", status, log);
    }
    free(log);
}

/* --- What is known of it --- */

pid_t server_pid(const struct server *server)
{
    return server->pid;
}

uint16_t server_port(const struct server *server)
{
    return server->port;
}

const char *server_url(const struct server *server)
{
    return server->url;
}

const char *server_dir(const struct server *server)
{
    return server->dir;
}

uint64_t server_memory_kib(const struct server *server, const char *line)
{
    char path[64], text[256];
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)server->pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    uint64_t kib = UINT64_MAX;
    while (fgets(text, sizeof text, file) != NULL) {
        if (strncmp(text, line, strlen(line)) == 0 && text[strlen(line)] == ':') {
            kib = strtoull(text + strlen(line) + 1, NULL, 10);
        }
    }
    fclose(file);
    assert_true(kib != UINT64_MAX);
    return kib;
}
