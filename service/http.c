/*
 * DESIGN. A worker is one libmicrohttpd daemon with its listening socket and its loop. All
 * callbacks of a connection run on the thread of its worker, so that a connection's fields need no
 * lock, but for two readers on other threads: the watchdog, which walks each worker's list of
 * connections under the worker's lock, and reads their stamps; and the counts, which are atomic.
 *
 * libmicrohttpd says that a connection is gone before it closes the descriptor. The list's entry
 * goes then, under the lock, so what the watchdog finds in the list is an open descriptor, and
 * never one that was closed and given to something else.
 *
 * Cutting off is shutdown(2): libmicrohttpd sees the end of the stream on the worker's thread and
 * cleans up there. A suspended connection notices once it is resumed.
 *
 * Draining: the listening sockets are shut down, which refuses new connections at once, whatever
 * holds up the workers: those are told, and not waited for. (Closing the sockets is left to
 * http_stop(), as the daemon may still be about to touch them.) Then whoever is between two
 * requests gets shutdown(SHUT_RD): libmicrohttpd still reads and answers what had arrived before
 * that, then sees the end. So no request is taken and then not answered.
 */
#include "service/http.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/tcp.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "service/clock.h"
#include "service/deadline.h"
#include "service/listen.h"
#include "service/log.h"
#include "service/loop.h"

/* Connections beyond the limit that may wait until they have asked: probes are answered, the others
 * get a 503. Beyond that the one that has waited longest gets it unasked. */
enum { REFUSED_MAX = 128 };

/* libmicrohttpd's own limit, where it stops to accept, must never be reached. */
enum { LIBRARY_SPARE = 256 };

/* How often the watchdog looks, and while draining. */
enum { WATCH_MAX_MS = 1000, WATCH_SOON_MS = 20, MS_PER_S = 1000 };

/* Between two complaints about descriptors. */
enum { TELL_MS = 10000 };

/* Bodies and answers: 1 KiB/s over any 30 s. */
enum { RATE_WINDOW_MS = 30000, RATE_WINDOW_BYTES = 30 * 1024 };

struct http_connection {
    struct http_worker *worker;
    struct loop_item resumed;
    TAILQ_ENTRY(http_connection) link; /* in the worker's list, under its lock */
    int fd;
    bool refused;           /* beyond the limit */
    _Atomic uint32_t stamp; /* written by the worker's thread */

    /* Under the worker's lock. */
    bool cut; /* SHUT_RDWR was done */
    struct deadline deadline;
};

TAILQ_HEAD(connection_list, http_connection);

struct http_worker {
    struct http_server *server;
    struct loop loop;
    struct metrics_shard *metrics;
    int listen_fd;
    _Atomic int spare_fd; /* given up when there are no others; -1: it is */
    pthread_mutex_t lock;
    struct connection_list connections; /* those beyond the limit last, in order of arrival */
};

struct http_server {
    struct api *api;
    struct metrics *metrics;
    struct address address;
    uint64_t limit;
    struct deadline_limits limits;
    _Atomic uint64_t open, accepted, refused, cut;
    _Atomic uint64_t told_ms; /* when it was said that there are no descriptors */
    _Atomic bool closed;      /* drained: nobody gets in any more */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    bool draining;
    bool stopping;
    pthread_t watchdog;

    unsigned n_workers;
    struct http_worker workers[];
};

/* --- A connection's life, on its worker's thread --- */

static struct http_connection *connection_of(struct MHD_Connection *mhd)
{
    return MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static void enter(struct http_connection *connection, enum deadline_phase phase)
{
    uint32_t stamp = atomic_load_explicit(&connection->stamp, memory_order_relaxed);
    atomic_store_explicit(&connection->stamp, deadline_stamp(phase, deadline_requests(stamp)),
                          memory_order_relaxed);
}

/* The answer for crowds: nobody asked yet, and nobody is waited for. */
static void refuse_at_once(int fd)
{
    static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\n"
                                 "Retry-After: 1\r\n"
                                 "Cache-Control: no-store\r\n"
                                 "Content-Length: 0\r\n"
                                 "Connection: close\r\n\r\n";
    (void)!send(fd, answer, sizeof answer - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(fd, SHUT_RDWR);
}

/* Makes room for a connection beyond the limit: who has asked nothing yet must go, so that nobody
 * who asks at once, as probes do, is kept out by those who only sit there. */
static void refuse_longest_waiting(struct http_worker *worker)
{
    struct http_connection *c, *longest = NULL;
    pthread_mutex_lock(&worker->lock);
    TAILQ_FOREACH_REVERSE (c, &worker->connections, connection_list, link) {
        if (!c->refused) {
            break;
        }
        longest = !c->cut && deadline_phase(atomic_load(&c->stamp)) == PHASE_HEADERS ? c : longest;
    }
    if (longest != NULL) {
        longest->cut = true;
        refuse_at_once(longest->fd);
    }
    pthread_mutex_unlock(&worker->lock);
}

/* And whoever waits for the last connection to go. */
static void wake_watchdog(struct http_server *server)
{
    pthread_mutex_lock(&server->lock);
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

static void connection_opened(struct http_worker *worker, struct MHD_Connection *mhd,
                              void **socket_context)
{
    struct http_server *server = worker->server;
    uint64_t open = atomic_fetch_add(&server->open, 1) + 1;
    atomic_fetch_add_explicit(&server->accepted, 1, memory_order_relaxed);
    int fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    struct http_connection *connection = calloc(1, sizeof *connection);
    *socket_context = connection;
    bool at_once = atomic_load(&server->closed) || atomic_load(&worker->spare_fd) < 0;
    bool refused = open > server->limit || at_once;
    if (refused) {
        atomic_fetch_add_explicit(&server->refused, 1, memory_order_relaxed);
    }
    if (connection == NULL || at_once) {
        refuse_at_once(fd);
    } else if (open > server->limit + REFUSED_MAX) {
        refuse_longest_waiting(worker);
    }
    if (connection == NULL) {
        return;
    }
    connection->worker = worker;
    connection->fd = fd;
    connection->refused = refused;
    if (refused) {
        enter(connection, PHASE_HEADERS); /* no idling on a place that it doesn't have */
    }
    pthread_mutex_lock(&worker->lock);
    if (refused) {
        TAILQ_INSERT_TAIL(&worker->connections, connection, link);
    } else {
        TAILQ_INSERT_HEAD(&worker->connections, connection, link);
    }
    pthread_mutex_unlock(&worker->lock);
}

static void connection_closed(struct http_worker *worker, struct http_connection *connection)
{
    struct http_server *server = worker->server;
    if (connection != NULL) {
        pthread_mutex_lock(&worker->lock);
        TAILQ_REMOVE(&worker->connections, connection, link);
        pthread_mutex_unlock(&worker->lock);
        free(connection);
    }
    if (atomic_fetch_sub(&server->open, 1) == 1) {
        wake_watchdog(server);
    }
}

static void on_connection(void *arg, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    switch (what) {
    case MHD_CONNECTION_NOTIFY_STARTED:
        connection_opened(arg, mhd, socket_context);
        break;
    case MHD_CONNECTION_NOTIFY_CLOSED:
        connection_closed(arg, *socket_context);
        break;
    }
}

/* --- A request's life, on its worker's thread --- */

enum problem http_refuse(void *arg, struct MHD_Connection *mhd)
{
    (void)arg;
    const struct http_connection *connection = connection_of(mhd);
    if (connection == NULL) {
        return PROBLEM_OUT_OF_MEMORY;
    }
    return connection->refused ? PROBLEM_TOO_MANY_CONNECTIONS : PROBLEM_NONE;
}

void http_phase(void *arg, struct MHD_Connection *mhd, enum api_phase phase)
{
    (void)arg;
    static const enum deadline_phase phases[] = {
        [API_PHASE_HEADERS] = PHASE_HEADERS,
        [API_PHASE_BODY] = PHASE_BODY,
        [API_PHASE_WAITING] = PHASE_WAITING,
        [API_PHASE_ANSWER] = PHASE_ANSWER,
    };
    struct http_connection *connection = connection_of(mhd);
    if (connection != NULL) {
        enter(connection, phases[phase]);
    }
}

void http_resume(void *arg, struct MHD_Connection *mhd)
{
    (void)arg;
    struct http_connection *connection = connection_of(mhd);
    assert(connection != NULL); /* else it was refused */
    connection->resumed.connection = mhd;
    loop_resume(&connection->worker->loop, &connection->resumed);
}

void http_finished(void *arg, struct MHD_Connection *mhd, const struct api_outcome *outcome)
{
    (void)arg;
    const struct http_connection *connection = connection_of(mhd);
    if (connection != NULL) {
        const struct http_worker *worker = connection->worker;
        metrics_count(worker->server->metrics, worker->metrics, outcome);
    }
    if (outcome->status == MHD_HTTP_INTERNAL_SERVER_ERROR) {
        log_event(LOG_ERROR, "request_failed", log_text("request_id", outcome->request_id),
                  log_text("route", api_route_name(outcome->route)),
                  log_text("method", api_method_name(outcome->method)),
                  log_text("problem", problem_kind(outcome->problem)->type),
                  log_text("error", err_text(outcome->err)));
    }
}

static void on_completed(void *arg, struct MHD_Connection *mhd, void **request,
                         enum MHD_RequestTerminationCode how)
{
    struct http_worker *worker = arg;
    struct http_connection *connection = connection_of(mhd);
    api_end(worker->server->api, mhd, request, how);
    if (connection != NULL) {
        uint32_t stamp = atomic_load_explicit(&connection->stamp, memory_order_relaxed);
        atomic_store_explicit(&connection->stamp,
                              deadline_stamp(PHASE_IDLE, deadline_requests(stamp) + 1),
                              memory_order_relaxed);
    }
}

/* Without a descriptor for the connection that waits, accept() would be tried again for ever by a
 * worker that has no connection. So one is given up for it, and it is refused. */
static void out_of_descriptors(struct http_worker *worker)
{
    uint64_t now = clock_ms(), told = atomic_load(&worker->server->told_ms);
    int spare_fd = atomic_exchange(&worker->spare_fd, -1);
    if (spare_fd >= 0) {
        close(spare_fd);
    }
    if ((told == 0 || now - told >= TELL_MS) &&
        atomic_compare_exchange_strong(&worker->server->told_ms, &told, now)) {
        log_event(LOG_ERROR, "out_of_descriptors",
                  log_text("detail", "new connections are refused or wait until others are closed; "
                                     "raise the limit (ulimit -n) or lower --connections"));
    }
}

static bool take_spare(struct http_worker *worker)
{
    if (atomic_load(&worker->spare_fd) < 0) {
        atomic_store(&worker->spare_fd, open("/dev/null", O_RDONLY | O_CLOEXEC));
    }
    return atomic_load(&worker->spare_fd) >= 0;
}

static void on_library_message(void *arg, const char *format, va_list args)
{
    if (strstr(format, "resource limit") != NULL) {
        out_of_descriptors(arg);
    }
    if (!log_enabled(LOG_DEBUG)) {
        return;
    }
    char text[256];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    vsnprintf(text, sizeof text, format, args);
#pragma GCC diagnostic pop
    text[strcspn(text, "\n")] = '\0';
    log_event(LOG_DEBUG, "http_library", log_text("message", text));
}

/* --- The watchdog --- */

/* TCP_CLOSE_WAIT of netinet/tcp.h, which knows no byte counts and excludes linux/tcp.h. */
enum { STATE_CLOSE_WAIT = 8 };

/* What the kernel knows of a connection. */
struct progress {
    uint64_t received; /* bytes from the client */
    uint64_t sent;     /* bytes that it acknowledged */
    bool client_done;  /* it has closed its half */
};

static struct progress read_progress(int fd)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    memset(&info, 0, sizeof info);
    (void)getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
    return (struct progress){.received = info.tcpi_bytes_received,
                             .sent = info.tcpi_bytes_acked,
                             .client_done = info.tcpi_state == STATE_CLOSE_WAIT};
}

/* Whether bytes have come that nobody has read yet: then it is the worker that is late, which may
 * wait for a disk, and not the client. */
static bool has_unread(int fd)
{
    int unread = 0;
    return ioctl(fd, FIONREAD, &unread) == 0 && unread > 0;
}

static void cut_off(struct http_server *server, struct http_connection *connection)
{
    if (!connection->cut) {
        /* Without lingering: who doesn't read would hold the kernel's memory on. */
        const struct linger none = {.l_onoff = 1, .l_linger = 0};
        connection->cut = true;
        atomic_fetch_add_explicit(&server->cut, 1, memory_order_relaxed);
        (void)setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
        shutdown(connection->fd, SHUT_RDWR);
    }
}

static void watch_connection(struct http_server *server, struct http_connection *connection,
                             uint64_t now, bool draining)
{
    uint32_t stamp = atomic_load_explicit(&connection->stamp, memory_order_relaxed);
    enum deadline_phase phase = deadline_phase(stamp);
    struct progress progress =
        deadline_needs_bytes(stamp) ? read_progress(connection->fd) : (struct progress){0};
    bool may_end = phase == PHASE_IDLE || phase == PHASE_HEADERS;
    /* libmicrohttpd overlooks the end of a stream that came together with the last bytes before
     * it. Being told again, it first reads what is left: so this is done until it has. */
    if ((draining && may_end) || (progress.client_done && (may_end || phase == PHASE_BODY))) {
        shutdown(connection->fd, SHUT_RD);
    }
    if (deadline_check(&connection->deadline, &server->limits, stamp, now, progress.received,
                       progress.sent) &&
        (phase == PHASE_ANSWER || !has_unread(connection->fd))) {
        cut_off(server, connection);
    }
}

static void watch_worker(struct http_worker *worker, bool draining)
{
    uint64_t now = clock_ms();
    struct http_connection *c;
    pthread_mutex_lock(&worker->lock);
    TAILQ_FOREACH (c, &worker->connections, link) {
        watch_connection(worker->server, c, now, draining);
    }
    pthread_mutex_unlock(&worker->lock);
}

/* Waits for `changed`, with the server's lock held. */
static void wait_changed(struct http_server *server, uint64_t until_ms)
{
    struct timespec until = {.tv_sec = (time_t)(until_ms / MS_PER_S),
                             .tv_nsec = (long)(until_ms % MS_PER_S) * 1000000};
    (void)pthread_cond_timedwait(&server->changed, &server->lock, &until);
}

static void watch_workers(struct http_server *server, bool draining)
{
    for (unsigned i = 0; i < server->n_workers; i++) {
        watch_worker(&server->workers[i], draining);
        (void)take_spare(&server->workers[i]);
    }
}

static void *watchdog(void *arg)
{
    struct http_server *server = arg;
    uint64_t interval = server->limits.header_ms / 4;
    uint64_t next_look = 0;
    interval = interval < WATCH_MAX_MS ? interval : WATCH_MAX_MS;
    pthread_setname_np(pthread_self(), "http-watchdog");
    pthread_mutex_lock(&server->lock);
    while (!server->stopping) {
        bool draining = server->draining;
        uint64_t now = clock_ms();
        if (draining || now >= next_look) {
            next_look = now + interval;
            pthread_mutex_unlock(&server->lock);
            watch_workers(server, draining);
            pthread_mutex_lock(&server->lock);
        }
        if (!server->stopping && server->draining == draining) {
            wait_changed(server, draining ? now + WATCH_SOON_MS : next_look);
        }
    }
    pthread_mutex_unlock(&server->lock);
    return NULL;
}

/* --- Start and stop, on the main thread --- */

/* The system's soft limit is there for programs that use select(); we take all we may have. */
static enum err reserve_descriptors(const struct http_options *options, struct err_detail *detail)
{
    uint64_t needed = (uint64_t)options->connections + LIBRARY_SPARE + options->other_descriptors;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        err_detail_set(detail, "getrlimit: %s", strerror(errno));
        return ERR_IO;
    }
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < needed) {
        err_detail_set(detail,
                       "--connections %u needs %" PRIu64 " file descriptors and only %" PRIu64
                       " are allowed: raise the limit (ulimit -n) or lower --connections",
                       options->connections, needed, (uint64_t)limit.rlim_cur);
        return ERR_TOO_LARGE;
    }
    return ERR_OK;
}

static struct http_server *server_new(const struct http_options *options, struct api *api,
                                      struct metrics *metrics)
{
    struct http_server *server =
        calloc(1, sizeof *server + options->threads * sizeof server->workers[0]);
    if (server == NULL) {
        return NULL;
    }
    server->api = api;
    server->metrics = metrics;
    server->address = options->listen;
    server->limit = options->connections;
    server->limits = (struct deadline_limits){.header_ms = options->header_timeout_ms,
                                              .window_ms = RATE_WINDOW_MS,
                                              .window_bytes = RATE_WINDOW_BYTES};
    server->n_workers = options->threads;
    pthread_mutex_init(&server->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    for (unsigned i = 0; i < options->threads; i++) {
        struct http_worker *worker = &server->workers[i];
        worker->server = server;
        worker->metrics = metrics_shard(metrics, i);
        worker->listen_fd = -1;
        worker->spare_fd = -1;
        TAILQ_INIT(&worker->connections);
        pthread_mutex_init(&worker->lock, NULL);
    }
    return server;
}

static void server_free(struct http_server *server)
{
    for (unsigned i = 0; i < server->n_workers; i++) {
        struct http_worker *worker = &server->workers[i];
        const int fds[] = {worker->listen_fd, atomic_load(&worker->spare_fd)};
        for (size_t j = 0; j < sizeof fds / sizeof fds[0]; j++) {
            if (fds[j] >= 0) {
                close(fds[j]);
            }
        }
        pthread_mutex_destroy(&worker->lock);
    }
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

static bool start_worker(struct http_worker *worker, const struct http_options *options)
{
    unsigned idle_s = (unsigned)((options->idle_timeout_ms + MS_PER_S - 1) / MS_PER_S);
    struct api *api = worker->server->api;
    if (!take_spare(worker)) {
        return false;
    }
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    struct MHD_Daemon *daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, api_handle, api,                             //
                         MHD_OPTION_EXTERNAL_LOGGER, on_library_message, worker,            //
                         MHD_OPTION_LISTEN_SOCKET, worker->listen_fd,                       //
                         MHD_OPTION_CONNECTION_LIMIT, options->connections + LIBRARY_SPARE, //
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_POOL_BYTES,       //
                         MHD_OPTION_CONNECTION_TIMEOUT, idle_s,                             //
                         MHD_OPTION_NOTIFY_CONNECTION, on_connection, worker,               //
                         MHD_OPTION_NOTIFY_COMPLETED, on_completed, worker,                 //
                         MHD_OPTION_URI_LOG_CALLBACK, api_begin, api,                       //
                         MHD_OPTION_UNESCAPE_CALLBACK, api_keep_escapes, api,               //
#if MHD_VERSION >= 0x01000000
                         MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1, //
#else
                         /* Sic: -1 is the level that refuses blanks between a header's name and
                            its colon. */
                         MHD_OPTION_STRICT_FOR_CLIENT, -1, //
#endif
                         MHD_OPTION_END);
    if (daemon != NULL && loop_start(&worker->loop, daemon) == ERR_OK) {
        return true;
    }
    MHD_stop_daemon(daemon);
    worker->listen_fd = -1; /* libmicrohttpd has closed it */
    return false;
}

/* Workers and the watchdog; what was started is stopped again on failure. */
static enum err start_threads(struct http_server *server, const struct http_options *options,
                              struct err_detail *detail)
{
    unsigned started = 0;
    while (started < server->n_workers && start_worker(&server->workers[started], options)) {
        started++;
    }
    if (started == server->n_workers &&
        pthread_create(&server->watchdog, NULL, watchdog, server) == 0) {
        return ERR_OK;
    }
    err_detail_set(detail, "cannot start HTTP thread %u of %u: %s", started + 1, server->n_workers,
                   strerror(errno));
    for (unsigned i = 0; i < started; i++) {
        loop_stop(&server->workers[i].loop);
        server->workers[i].listen_fd = -1;
    }
    return ERR_NO_MEMORY;
}

enum err http_start(const struct http_options *options, struct api *api, struct metrics *metrics,
                    struct http_server **ret_server, struct err_detail *detail)
{
    enum err err = reserve_descriptors(options, detail);
    if (err != ERR_OK) {
        return err;
    }
    struct http_server *server = server_new(options, api, metrics);
    int *fds = calloc(options->threads, sizeof fds[0]);
    if (server == NULL || fds == NULL) {
        err_detail_set(detail, "out of memory");
        err = ERR_NO_MEMORY;
    } else {
        err = listen_open(&server->address, options->threads, fds, detail);
    }
    if (err == ERR_OK) {
        for (unsigned i = 0; i < options->threads; i++) {
            server->workers[i].listen_fd = fds[i];
        }
        err = start_threads(server, options, detail);
    }
    free(fds);
    if (err == ERR_OK) {
        *ret_server = server;
    } else if (server != NULL) {
        server_free(server);
    }
    return err;
}

struct address http_address(const struct http_server *server)
{
    return server->address;
}

struct http_counts http_counts(const struct http_server *server)
{
    return (struct http_counts){
        .open = atomic_load_explicit(&server->open, memory_order_relaxed),
        .accepted = atomic_load_explicit(&server->accepted, memory_order_relaxed),
        .refused = atomic_load_explicit(&server->refused, memory_order_relaxed),
        .cut = atomic_load_explicit(&server->cut, memory_order_relaxed),
    };
}

void http_drain(struct http_server *server)
{
    for (unsigned i = 0; i < server->n_workers; i++) {
        loop_quiesce(&server->workers[i].loop);
        shutdown(server->workers[i].listen_fd, SHUT_RDWR);
    }
    pthread_mutex_lock(&server->lock);
    server->draining = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

bool http_wait_drained(struct http_server *server, uint64_t timeout_ms)
{
    uint64_t until = clock_ms() + timeout_ms;
    bool drained = false;
    pthread_mutex_lock(&server->lock);
    while (!drained && clock_ms() < until) {
        if (atomic_load(&server->open) > 0) {
            wait_changed(server, until);
            continue;
        }
        /* One more might have been accepted just before the port closed: from here on it would
         * be refused, and before that it was counted. */
        atomic_store(&server->closed, true);
        if (atomic_load(&server->open) > 0) {
            continue;
        }
        /* Whoever lets the last one go on may not yet be done with its worker. */
        if (api_waiting(server->api) > 0) {
            wait_changed(server, clock_ms() + 1);
            continue;
        }
        drained = true;
    }
    pthread_mutex_unlock(&server->lock);
    return drained;
}

void http_cut_all(struct http_server *server)
{
    for (unsigned i = 0; i < server->n_workers; i++) {
        struct http_worker *worker = &server->workers[i];
        pthread_mutex_lock(&worker->lock);
        struct http_connection *c;
        TAILQ_FOREACH (c, &worker->connections, link) {
            cut_off(server, c);
        }
        pthread_mutex_unlock(&worker->lock);
    }
}

void http_stop(struct http_server *server)
{
    if (server == NULL) {
        return;
    }
    pthread_mutex_lock(&server->lock);
    server->stopping = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
    pthread_join(server->watchdog, NULL);
    for (unsigned i = 0; i < server->n_workers; i++) {
        loop_stop(&server->workers[i].loop);
    }
    server_free(server);
}
