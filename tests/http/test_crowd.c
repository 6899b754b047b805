/* A crowd of clients that send a byte a second or never read their answer, beside clients that go
 * on as before. With VARVE_TEST_CROWD=full there are 2,000 and 200 of them, and the test waits
 * until each is cut off, which takes half a minute; else it is a tenth of them, of which those that
 * are slow with their header section are waited for. Also: connections by the thousand, and
 * descriptors that run out. */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/http/fixture.h"

enum { OTHERS = 4, SAMPLES_MAX = 200000, LARGE_BYTES = 1 << 20, DRIP_MS = 1000 };
enum { HEADER_TIMEOUT_MS = 3000, WINDOW_MS = 30000 };

enum { SLACK_KIB = 8192 }; /* what the allocator keeps, however many there are */
#ifdef VARVE_SANITIZED
enum { CONNECTION_KIB = 4096 }; /* sanitizers keep what was freed for a while */
#else
enum { CONNECTION_KIB = 24 }; /* 16 for the request, and what is known of the connection */
#endif

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint64_t now_ms(void)
{
    return now_us() / 1000;
}

static bool is_full_figure(void)
{
    const char *text = getenv("VARVE_TEST_CROWD");
    return text != NULL && strcmp(text, "full") == 0;
}

/* --- The other clients --- */

struct other {
    pthread_t thread;
    struct client *client;
    _Atomic bool *stop;
    uint32_t *samples_us;
    size_t n;
    unsigned busy, failed;
    struct reply first_failed;
};

/* A write that waits for a slow disk for too long is told to try again, whoever else is there. */
static bool is_busy(const struct reply *reply)
{
    return reply->status == 503 && strstr(reply->body, "/problems/busy") != NULL;
}

static void *go_on(void *arg)
{
    struct other *other = arg;
    while (!atomic_load(other->stop) && other->n < SAMPLES_MAX) {
        bool writes = other->n % 4 == 0;
        uint64_t began = now_us();
        struct reply reply = writes ? client_put(other->client, "/kv/other", "value")
                                    : client_get(other->client, "/kv/other");
        other->samples_us[other->n++] = (uint32_t)(now_us() - began);
        bool failed = reply.status != 200 && reply.status != 204 && !is_busy(&reply);
        other->busy += is_busy(&reply);
        if (failed && other->failed++ == 0) {
            other->first_failed = reply;
        } else {
            reply_free(&reply);
        }
    }
    return NULL;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

struct others {
    _Atomic bool stop;
    struct other all[OTHERS];
};

static struct others *others_start(const struct server *server)
{
    struct others *others = calloc(1, sizeof *others);
    assert_non_null(others);
    for (size_t i = 0; i < OTHERS; i++) {
        struct other *other = &others->all[i];
        other->client = client_new(server);
        other->stop = &others->stop;
        other->samples_us = malloc(SAMPLES_MAX * sizeof other->samples_us[0]);
        assert_non_null(other->samples_us);
        assert_int_equal(pthread_create(&other->thread, NULL, go_on, other), 0);
    }
    return others;
}

/* Prints what they had to wait; each of their requests was answered as it should. */
static void others_stop(struct others *others, const char *when)
{
    size_t n = 0;
    unsigned busy = 0;
    uint32_t *all = malloc(OTHERS * SAMPLES_MAX * sizeof all[0]);
    assert_non_null(all);
    atomic_store(&others->stop, true);
    for (size_t i = 0; i < OTHERS; i++) {
        struct other *other = &others->all[i];
        pthread_join(other->thread, NULL);
        memcpy(all + n, other->samples_us, other->n * sizeof all[0]);
        n += other->n;
        busy += other->busy;
        if (other->failed > 0) {
            fail_msg("%s: %u of %zu requests of a client failed, the first with status %u: %s%s",
                     when, other->failed, other->n, other->first_failed.status,
                     other->first_failed.error, other->first_failed.body);
        }
        free(other->samples_us);
        client_free(other->client);
    }
    qsort(all, n, sizeof all[0], by_size);
    assert_true(n > 0);
    size_t median = n / 2, p99 = n * 99 / 100;
    printf("%s: %zu requests of others (%u busy), median %.2f ms, p99 %.2f ms\n", when, n, busy,
           all[median] / 1000.0, all[p99] / 1000.0);
    free(all);
    free(others);
}

/* --- What the server has --- */

/* A number of /metrics, by the beginning of its line. */
static uint64_t metric(struct client *client, const char *series)
{
    struct reply page = client_get(client, "/metrics");
    assert_status(&page, 200);
    const char *line = strstr(page.body, series);
    assert_non_null(line);
    uint64_t value = strtoull(line + strlen(series), NULL, 10);
    reply_free(&page);
    return value;
}

/* Of its own, without what the store keeps of the values that the others write, the more the longer
 * it takes. */
static uint64_t memory_kib(const struct server *server, struct client *client)
{
    uint64_t kib = server_memory_kib(server, "RssAnon");
    uint64_t stored_kib = (metric(client, "\nvarve_memtable_bytes ") +
                           metric(client, "\nvarve_sealed_memtable_bytes ")) /
                          1024;
    return kib > stored_kib ? kib - stored_kib : 0;
}

/* --- The crowd --- */

enum kind { SLOW_HEADER, SLOW_BODY, UNREAD };

struct member {
    int fd;
    enum kind kind;
    uint64_t cut_ms; /* after it began */
};

static void join_crowd(const struct server *server, struct member *member, enum kind kind)
{
    static const char *const beginnings[] = {
        [SLOW_HEADER] = "GET /kv/other HTTP/1.1\r\nHost: localhost\r\nSlow: ",
        [SLOW_BODY] = "PUT /kv/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n\r\n",
        [UNREAD] = "GET /kv/large HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    const int small = 4096;
    *member = (struct member){.fd = raw_connect(server), .kind = kind};
    (void)setsockopt(member->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    raw_send(member->fd, beginnings[kind]);
}

static bool is_closed(int fd)
{
    struct pollfd state = {.fd = fd, .events = POLLRDHUP};
    return poll(&state, 1, 0) > 0;
}

/* A byte from each that sends; notes who was cut off. Returns how many are left, of all or of those
 * that are slow with their header section. */
static size_t drip(struct member members[], size_t n, uint64_t began, bool all)
{
    size_t left = 0;
    for (size_t i = 0; i < n; i++) {
        struct member *member = &members[i];
        if (member->cut_ms == 0 && is_closed(member->fd)) {
            member->cut_ms = now_ms() - began;
        }
        if (member->cut_ms == 0 && member->kind != UNREAD) {
            (void)!send(member->fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        left += member->cut_ms == 0 && (all || member->kind == SLOW_HEADER);
    }
    return left;
}

static void print_cuts(const struct member members[], size_t n, enum kind kind, const char *what)
{
    uint64_t first = UINT64_MAX, last = 0;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (members[i].kind == kind && members[i].cut_ms > 0) {
            count++;
            first = members[i].cut_ms < first ? members[i].cut_ms : first;
            last = members[i].cut_ms > last ? members[i].cut_ms : last;
        }
    }
    if (count > 0) {
        printf("%zu %s were cut off %.1f to %.1f s after they began\n", count, what,
               (double)first / 1000, (double)last / 1000);
        assert_true(first >= (kind == SLOW_HEADER ? HEADER_TIMEOUT_MS / 2 : WINDOW_MS * 9 / 10));
    }
}

static void a_crowd_of_slow_clients_is_cut_off_and_others_go_on(void **state)
{
    (void)state;
    bool full = is_full_figure();
    size_t slow = full ? 2000 : 200, n = slow + slow / 10;
    struct server *server = server_start(FIELDS("--header-timeout", "3s"));
    struct client *client = client_new(server);
    struct member *members = calloc(n, sizeof *members);
    char *large = calloc(1, LARGE_BYTES);
    assert_true(members != NULL && large != NULL);
    struct reply put = client_send(client, "PUT", "/kv/large", NULL, large, LARGE_BYTES);
    assert_status(&put, 201);
    reply_free(&put);
    expect_status(client, 201, "PUT", "/kv/other", NULL, "value");

    struct others *others = others_start(server);
    (void)poll(NULL, 0, full ? 5000 : 1000); /* the time for which they are measured */
    others_stop(others, "before");
    uint64_t before_kib = memory_kib(server, client), most_kib = 0;
    others = others_start(server);
    uint64_t began = now_ms();
    for (size_t i = 0; i < n; i++) {
        join_crowd(server, &members[i], i >= slow ? UNREAD : i % 2 ? SLOW_BODY : SLOW_HEADER);
    }
    for (size_t left = n; left > 0;) {
        if (now_ms() - began > WINDOW_MS + PATIENCE_MS) {
            fail_msg("%zu of the slow ones are still there", left);
        }
        left = drip(members, n, began, full);
        uint64_t kib = memory_kib(server, client);
        most_kib = kib > most_kib ? kib : most_kib;
        (void)poll(NULL, 0, DRIP_MS); /* the rate at which they send */
    }
    others_stop(others, "during");
    print_cuts(members, n, SLOW_HEADER, "slow with their header section");
    print_cuts(members, n, SLOW_BODY, "slow with their body");
    print_cuts(members, n, UNREAD, "that didn't read");
    printf("%zu slow clients and %zu that don't read: %" PRIu64 " KiB of memory, %" PRIu64
           " KiB before\n",
           slow, n - slow, most_kib, before_kib);
    if (most_kib > before_kib + n * CONNECTION_KIB + SLACK_KIB) {
        fail_msg("more than %d KiB a connection", CONNECTION_KIB);
    }
    for (size_t i = 0; i < n; i++) {
        close(members[i].fd);
    }
    free(members);
    free(large);
    client_free(client);
    server_stop(server);
}

/* --- Connections, one after the other --- */

/* Until the server has seen the end of all connections but the client's own. */
static void wait_for_ends(struct client *client)
{
    uint64_t began = now_ms();
    while (metric(client, "\nvarve_http_connections ") > 1) {
        if (now_ms() - began > PATIENCE_MS) {
            fail_msg("connections that were closed are still there");
        }
        (void)poll(NULL, 0, 1);
    }
}

static void ten_thousand_connections_leave_nothing_behind(void **state)
{
    (void)state;
    enum { CONNECTIONS = 10000, AT_ONCE = 100, GARBAGE_BYTES = 40 };
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct server *server = server_start(NULL);
    struct client *client = client_new(server);
    expect_status(client, 201, "PUT", "/kv/other", NULL, "value");
    uint64_t before_kib = 0;
    for (int i = 0; i < CONNECTIONS; i++) {
        if (i % AT_ONCE == 0) {
            wait_for_ends(client); /* or a busy machine has more of them at once */
        }
        if (i == CONNECTIONS / 10) {
            before_kib = server_memory_kib(server, "RssAnon");
        }
        int fd = raw_connect(server);
        if (i % 3 == 1) {
            raw_send(fd, "GET /kv/other HTTP/1.1\r\nHost: localhost\r\n\r\n");
        } else if (i % 3 == 2) {
            char garbage[GARBAGE_BYTES];
            for (size_t at = 0; at < sizeof garbage; at++) {
                garbage[at] = (char)(i * 31 + (int)at * 7);
            }
            raw_send_bytes(fd, garbage, sizeof garbage);
        }
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
    }
    wait_for_ends(client);
    expect_status(client, 200, "GET", "/kv/other", NULL, NULL);
    uint64_t after_kib = server_memory_kib(server, "RssAnon");
    printf("%d connections: %" PRIu64 " KiB of memory, %" PRIu64 " KiB after a tenth of them\n",
           CONNECTIONS, after_kib, before_kib);
    assert_true(after_kib < before_kib + (uint64_t)AT_ONCE * CONNECTION_KIB);
    client_free(client);
    server_stop(server);
}

/* --- Descriptors --- */

static double cpu_seconds(const struct server *server)
{
    char path[64], text[1024];
    unsigned long user, system;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)server_pid(server));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_int_equal(sscanf(strrchr(text, ')'),
                            ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                            &system),
                     2);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void set_descriptors(const struct server *server, rlim_t soft)
{
    struct rlimit limit;
    assert_int_equal(prlimit(server_pid(server), RLIMIT_NOFILE, NULL, &limit), 0);
    limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
    assert_int_equal(prlimit(server_pid(server), RLIMIT_NOFILE, &limit, NULL), 0);
}

/* The least number that isn't open: with that as the limit no more can be opened. */
static rlim_t descriptors_in_use(const struct server *server)
{
    rlim_t n = 0;
    char path[64];
    do {
        (void)snprintf(path, sizeof path, "/proc/%d/fd/%u", (int)server_pid(server), (unsigned)n++);
    } while (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
    return n - 1;
}

/* At start the server sees to it that it may have as many as its limits allow (test_service.c); so
 * they can only run out when they are taken away from it. */
static void descriptors_that_run_out_stop_new_connections_and_nothing_else(void **state)
{
    (void)state;
    enum { WAITING = 6, LOOK_MS = 2000 };
    static const char get_other[] = "GET /kv/other HTTP/1.1\r\nHost: localhost\r\n\r\n";
    int served = 0;
    struct server *server = server_start(FIELDS("--threads", "2"));
    struct client *client = client_new(server);
    int fds[WAITING];
    expect_status(client, 201, "PUT", "/kv/other", NULL, "value");
    set_descriptors(server, descriptors_in_use(server));
    for (int i = 0; i < WAITING; i++) {
        fds[i] = raw_connect(server); /* by the kernel */
    }
    server_wait_log(server, "event=out_of_descriptors");
    double before = cpu_seconds(server);
    (void)poll(NULL, 0, LOOK_MS); /* for which the processor's time is looked at */
    double spent = cpu_seconds(server) - before;
    printf("out of descriptors for %.1f s: %.2f s of processor time\n", LOOK_MS / 1000.0, spent);
    assert_true(spent < LOOK_MS / 1000.0 / 2);
    expect_status(client, 204, "PUT", "/kv/other", NULL, "value");
    set_descriptors(server, RLIM_INFINITY);
    client_free(client); /* a worker that has connections takes others when one is closed */
    for (int i = 0; i < WAITING; i++) {
        (void)send(fds[i], get_other, sizeof get_other - 1, MSG_NOSIGNAL);
        struct reply reply = raw_reply(fds[i]);
        if (reply.status != 200 && reply.status != 503 && reply.status != 0) {
            fail_msg("status %u", reply.status);
        }
        served += reply.status == 200;
        reply_free(&reply);
        close(fds[i]);
    }
    printf("of %d that waited %d were served\n", WAITING, served);
    unsigned status;
    do { /* until the spare descriptors are back */
        struct reply reply = raw_exchange(server, get_other);
        status = reply.status;
        reply_free(&reply);
    } while (status == 503);
    assert_int_equal(status, 200);
    server_stop(server);
}

int main(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crowd_of_slow_clients_is_cut_off_and_others_go_on),
        cmocka_unit_test(ten_thousand_connections_leave_nothing_behind),
        cmocka_unit_test(descriptors_that_run_out_stop_new_connections_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
