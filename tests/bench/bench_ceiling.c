/*
 * bench_ceiling: what libmicrohttpd can do at best where varve stands: the same listening socket,
 * daemon settings and header fields, but nothing behind them.
 *
 *   bench_ceiling PORT
 *
 * GET /kv/N, or /kv/N/anything, answers N bytes `x`. PUT takes a body and answers 204. Answers are
 * made once and shared. One thread serves; runs until SIGTERM.
 */
#include <errno.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "service/http.h"
#include "service/listen.h"

enum { SIZES = 16, BODY_MAX_BYTES = 16 << 20, IDLE_TIMEOUT_S = 75, CONNECTIONS = 4096 + 256 };

static struct constant {
    unsigned long bytes;
    struct MHD_Response *response;
} constants[SIZES];

static struct MHD_Response *stored;

static void fail(const char *what)
{
    fprintf(stderr, "bench_ceiling: %s\n", what);
    exit(1);
}

static void add(struct MHD_Response *response, const char *name, const char *value)
{
    if (MHD_add_response_header(response, name, value) == MHD_NO) {
        fail("a header field was refused");
    }
}

/* As long as varve's, on GET and PUT alike. */
static struct MHD_Response *response_new(size_t bytes)
{
    char *body = malloc(bytes > 0 ? bytes : 1);
    if (body == NULL) {
        fail("out of memory");
    }
    memset(body, 'x', bytes);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(bytes, body, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        fail("out of memory");
    }
    add(response, "ETag", "\"36fa87c335995b69-1\"");
    return response;
}

static struct MHD_Response *value_new(size_t bytes)
{
    struct MHD_Response *response = response_new(bytes);
    add(response, "Last-Modified", "Mon, 23 Nov 2026 11:34:13 GMT");
    add(response, "Cache-Control", "no-cache");
    add(response, "X-Content-Type-Options", "nosniff");
    add(response, "Content-Security-Policy", "sandbox");
    add(response, "Content-Type", "application/octet-stream");
    add(response, "Varve-Request-Id", "ef4fc096f361a322");
    return response;
}

/* The value of /kv/N; NULL where N makes no sense, or there are too many. */
static struct MHD_Response *value_of(const char *url)
{
    unsigned long bytes = strncmp(url, "/kv/", 4) == 0 ? strtoul(url + 4, NULL, 10) : 0;
    if (bytes == 0 || bytes > BODY_MAX_BYTES) {
        return NULL;
    }
    for (size_t i = 0; i < SIZES; i++) {
        if (constants[i].response == NULL) {
            constants[i] = (struct constant){bytes, value_new(bytes)};
        }
        if (constants[i].bytes == bytes) {
            return constants[i].response;
        }
    }
    return NULL;
}

static enum MHD_Result handle(void *arg, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_bytes, void **request)
{
    (void)arg;
    (void)version;
    (void)upload;
    static char seen;
    if (*request == NULL) {
        *request = &seen; /* an answer in the first call would close the connection */
        return MHD_YES;
    }
    if (*upload_bytes > 0) {
        *upload_bytes = 0;
        return MHD_YES;
    }
    if (strcmp(method, "PUT") == 0) {
        return MHD_queue_response(connection, MHD_HTTP_NO_CONTENT, stored);
    }
    struct MHD_Response *value = value_of(url);
    return value == NULL ? MHD_NO : MHD_queue_response(connection, MHD_HTTP_OK, value);
}

static struct MHD_Daemon *start(const char *port)
{
    char text[ADDRESS_TEXT_BYTES];
    struct address address;
    struct err_detail detail;
    int fd;
    (void)snprintf(text, sizeof text, "127.0.0.1:%s", port);
    if (!address_parse(text, &address)) {
        fail("usage: bench_ceiling PORT");
    }
    if (listen_open(&address, 1, &fd, &detail) != ERR_OK) {
        fail(detail.text);
    }
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    return MHD_start_daemon(flags, 0, NULL, NULL, handle, NULL,                          //
                            MHD_OPTION_LISTEN_SOCKET, fd,                                //
                            MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS,                    //
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_POOL_BYTES, //
                            MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S,               //
                            MHD_OPTION_STRICT_FOR_CLIENT, -1,                            //
                            MHD_OPTION_END);
}

/* As varve's watchdog does: with 128 events at a time libmicrohttpd asks for more before it deals
 * with them, and waits for as long as no more come. */
static int nudge_open(struct MHD_Daemon *daemon)
{
    int set = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0 || epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0) {
        fail(strerror(errno));
    }
    return fd;
}

int main(int argc, char **argv)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    stored = response_new(0);
    add(stored, "Varve-Request-Id", "0450be051ab649ab");
    struct MHD_Daemon *daemon = start(argc == 2 ? argv[1] : "");
    if (daemon == NULL) {
        fail(strerror(errno));
    }
    int nudge_fd = nudge_open(daemon);
    while (sigtimedwait(&stop, NULL, &pause) < 0) {
        (void)!write(nudge_fd, &(uint64_t){1}, sizeof(uint64_t));
    }
    MHD_stop_daemon(daemon);
    close(nudge_fd);
    for (size_t i = 0; i < SIZES && constants[i].response != NULL; i++) {
        MHD_destroy_response(constants[i].response);
    }
    MHD_destroy_response(stored);
    return 0;
}
