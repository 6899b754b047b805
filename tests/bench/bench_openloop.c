/*
 * bench_openloop: sends requests at a fixed rate, whether or not the server keeps up, and says how
 * long answers took from the moment when each request was due. A server that stalls for a second
 * is so charged with everything that was due in that second, not with one slow answer a connection
 * (coordinated omission).
 *
 *   bench_openloop [OPTION...] http://HOST:PORT[/PATH]
 *
 *   --rate N            requests a second, evenly spaced, 1,000 unless given. 0: each connection
 *                       sends again once it was answered; then times are those of the answers
 *   --seconds N         10 unless given
 *   --connections N     64 unless given; each has one request under way. What is due while all are
 *                       busy waits, and the wait counts
 *   --requests FILE     whole requests to send in turn, one behind another in the file, instead of
 *   --request-bytes N   GET PATH; each has N bytes
 *   --expect FILE       the body that each answer must have
 *   --each-second       a line for each second as well
 *
 * Prints a line of JSON: requests, requests a second, p50, p99, p99.9 and the longest time, in
 * microseconds; `late` is how late this program itself sent what it could have sent. Percentiles
 * are at most 0.8 % too high. An answer other than 2xx, a wrong body, a lost connection or 10 s
 * without an answer end it with status 1. One thread.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS UINT64_C(1000000000)

enum {
    EVENTS = 128,
    HEAD_BYTES = 8192,
    CHUNK_BYTES = 256 * 1024,
    PATIENCE_S = 10,
    FINE_BITS = 7, /* of a time: 128 buckets for each power of two */
    BUCKETS = (64 - FINE_BITS + 1) << FINE_BITS,
};

struct file {
    const char *data;
    size_t size;
};

struct times {
    uint64_t n;
    uint64_t max_ns;
    uint32_t buckets[BUCKETS];
};

struct connection {
    STAILQ_ENTRY(connection) link; /* among the idle */
    int fd;
    bool waits_for_room;
    const char *request;
    size_t sent_bytes;
    uint64_t idle_ns; /* since when */
    uint64_t due_ns;
    size_t head_bytes; /* of the answer, so far */
    bool in_body;
    uint64_t body_bytes, body_left;
    char head[HEAD_BYTES];
};

static struct {
    uint64_t rate, seconds, connections;
    struct file requests, expect;
    size_t request_bytes;
    bool each_second, expects;
    char host[256], port[16], path[1024];
} options = {.rate = 1000, .seconds = 10, .connections = 64};

static int epoll_fd;
static STAILQ_HEAD(, connection) idle = STAILQ_HEAD_INITIALIZER(idle);
static uint64_t began_ns, n_sent, n_answered, last_answer_ns;
static struct times total, this_second, late;

static _Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("bench_openloop: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

/* --- Times --- */

/* Below 2^FINE_BITS each its own bucket, then 2^FINE_BITS for every power of two. */
static size_t bucket_of(uint64_t ns)
{
    if (ns >> FINE_BITS == 0) {
        return (size_t)ns;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - FINE_BITS;
    return ((size_t)(shift + 1) << FINE_BITS) + (size_t)((ns >> shift) & ((1u << FINE_BITS) - 1));
}

/* The first time beyond the bucket. */
static uint64_t bucket_end_ns(size_t bucket)
{
    size_t power = bucket >> FINE_BITS, fine = bucket & ((1u << FINE_BITS) - 1);
    if (power == 0) {
        return bucket + 1;
    }
    return ((UINT64_C(1) << FINE_BITS) + fine + 1) << (power - 1);
}

static void times_add(struct times *times, uint64_t ns)
{
    times->n++;
    times->buckets[bucket_of(ns)]++;
    times->max_ns = ns > times->max_ns ? ns : times->max_ns;
}

/* The time that `share` of all don't exceed. */
static double times_us(const struct times *times, double share)
{
    uint64_t seen = 0, wanted = (uint64_t)(share * (double)times->n);
    for (size_t i = 0; i < BUCKETS; i++) {
        seen += times->buckets[i];
        if (seen > wanted) {
            uint64_t end_ns = bucket_end_ns(i);
            return (double)(end_ns < times->max_ns ? end_ns : times->max_ns) / 1e3;
        }
    }
    return (double)times->max_ns / 1e3;
}

static void print_times(const struct times *times)
{
    printf("\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f", times_us(times, 0.5),
           times_us(times, 0.99), times_us(times, 0.999), (double)times->max_ns / 1e3);
}

/* --- Requests --- */

static uint64_t requests_wanted(void)
{
    return options.rate == 0 ? UINT64_MAX : options.rate * options.seconds;
}

static uint64_t due_ns(uint64_t index)
{
    return began_ns + (uint64_t)((double)index * (double)SECOND_NS / (double)options.rate);
}

static void wait_for(struct connection *connection, bool room)
{
    if (connection->waits_for_room != room) {
        struct epoll_event event = {.events = EPOLLIN | (room ? EPOLLOUT : 0u),
                                    .data.ptr = connection};
        connection->waits_for_room = room;
        if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, connection->fd, &event) != 0) {
            fail("epoll_ctl: %s", strerror(errno));
        }
    }
}

static void send_more(struct connection *connection)
{
    while (connection->sent_bytes < options.request_bytes) {
        ssize_t n = send(connection->fd, connection->request + connection->sent_bytes,
                         options.request_bytes - connection->sent_bytes, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            break;
        }
        if (n < 0) {
            fail("send: %s", strerror(errno));
        }
        connection->sent_bytes += (size_t)n;
    }
    wait_for(connection, connection->sent_bytes < options.request_bytes);
}

static void begin(struct connection *connection, uint64_t due)
{
    uint64_t n = options.requests.size / options.request_bytes, now = now_ns();
    connection->due_ns = options.rate == 0 ? now : due;
    connection->request = options.requests.data + n_sent % n * options.request_bytes;
    connection->sent_bytes = 0;
    connection->head_bytes = 0;
    connection->in_body = false;
    n_sent++;
    times_add(&late, now - (due > connection->idle_ns ? due : connection->idle_ns));
    send_more(connection);
}

/* Sends what is due, as far as connections are free. */
static void begin_due(uint64_t now, uint64_t end_ns)
{
    while (!STAILQ_EMPTY(&idle) && n_sent < requests_wanted()) {
        uint64_t due = options.rate == 0 ? now : due_ns(n_sent);
        if (due > now || (options.rate == 0 && now >= end_ns)) {
            break;
        }
        struct connection *connection = STAILQ_FIRST(&idle);
        STAILQ_REMOVE_HEAD(&idle, link);
        begin(connection, due);
    }
}

/* --- Answers --- */

static uint64_t content_length(const char *head)
{
    for (const char *line = strchr(head, '\n'); line != NULL; line = strchr(line, '\n')) {
        line++;
        if (strncasecmp(line, "Content-Length:", 15) == 0) {
            return strtoull(line + 15, NULL, 10);
        }
        if (strncasecmp(line, "Transfer-Encoding:", 18) == 0) {
            fail("a chunked answer, which this program doesn't read");
        }
    }
    return 0;
}

/* Takes up to `size` bytes of the head; returns how many, all that belong to it. */
static size_t take_head(struct connection *connection, const char *data, size_t size)
{
    size_t room = HEAD_BYTES - 1 - connection->head_bytes, before = connection->head_bytes;
    size_t n = size < room ? size : room;
    memcpy(connection->head + before, data, n);
    connection->head_bytes += n;
    connection->head[connection->head_bytes] = '\0';
    size_t from = before < 3 ? 0 : before - 3;
    char *end = strstr(connection->head + from, "\r\n\r\n");
    if (end == NULL) {
        if (n == room) {
            fail("an answer with more than %d bytes of headers", HEAD_BYTES);
        }
        return n;
    }
    end[2] = '\0';
    unsigned status = 0;
    if (sscanf(connection->head, "HTTP/1.%*1[01] %3u", &status) != 1 || status / 100 != 2) {
        fail("an answer that isn't 2xx: %.*s", (int)strcspn(connection->head, "\r"),
             connection->head);
    }
    connection->in_body = true;
    connection->body_bytes = status == 204 ? 0 : content_length(connection->head);
    connection->body_left = connection->body_bytes;
    if (options.expects && connection->body_bytes != options.expect.size) {
        fail("an answer of %" PRIu64 " bytes where %zu are right", connection->body_bytes,
             options.expect.size);
    }
    return (size_t)(end + 4 - connection->head) - before;
}

static void answered(struct connection *connection)
{
    uint64_t now = now_ns();
    times_add(&total, now - connection->due_ns);
    times_add(&this_second, now - connection->due_ns);
    n_answered++;
    last_answer_ns = now;
    connection->idle_ns = now;
    STAILQ_INSERT_TAIL(&idle, connection, link);
}

static void take(struct connection *connection, const char *data, size_t size)
{
    while (size > 0) {
        if (connection->sent_bytes < options.request_bytes || connection->request == NULL) {
            fail("an answer to nothing that was asked");
        }
        size_t n;
        if (!connection->in_body) {
            n = take_head(connection, data, size);
        } else {
            n = size < connection->body_left ? size : (size_t)connection->body_left;
            uint64_t at = connection->body_bytes - connection->body_left;
            if (n == 0 || (options.expects && memcmp(data, options.expect.data + at, n) != 0)) {
                fail("a wrong byte in a body");
            }
            connection->body_left -= n;
        }
        data += n;
        size -= n;
        if (connection->in_body && connection->body_left == 0) {
            connection->request = NULL;
            answered(connection);
        }
    }
}

static void receive(struct connection *connection)
{
    static char chunk[CHUNK_BYTES];
    ssize_t n = recv(connection->fd, chunk, sizeof chunk, 0);
    if (n == 0) {
        fail("the server closed a connection");
    }
    if (n < 0 && errno != EAGAIN) {
        fail("recv: %s", strerror(errno));
    }
    if (n > 0) {
        take(connection, chunk, (size_t)n);
    }
}

/* --- The run --- */

static void each_second(uint64_t now, uint64_t *second)
{
    while (*second < options.seconds && now >= began_ns + (*second + 1) * SECOND_NS) {
        ++*second;
        if (options.each_second) {
            printf("{\"second\":%" PRIu64 ",\"requests\":%" PRIu64 ",", *second, this_second.n);
            print_times(&this_second);
            puts("}");
            fflush(stdout);
        }
        memset(&this_second, 0, sizeof this_second);
    }
}

/* Until the next request is due, if it could be sent, or the second ends. */
static struct timespec sleep_time(uint64_t now, uint64_t second)
{
    uint64_t until = began_ns + (second + 1) * SECOND_NS;
    if (options.rate != 0 && !STAILQ_EMPTY(&idle) && n_sent < requests_wanted() &&
        due_ns(n_sent) < until) {
        until = due_ns(n_sent);
    }
    uint64_t ns = until > now ? until - now : 0;
    return (struct timespec){.tv_sec = (time_t)(ns / SECOND_NS), .tv_nsec = (long)(ns % SECOND_NS)};
}

static void check_patience(uint64_t now)
{
    if (n_answered < n_sent && now > last_answer_ns + PATIENCE_S * SECOND_NS) {
        fail("no answer for %d s", PATIENCE_S);
    }
    if (now > began_ns + (options.seconds + PATIENCE_S) * SECOND_NS) {
        fail("%d s after the end only %" PRIu64 " of %" PRIu64 " requests were answered",
             PATIENCE_S, n_answered, requests_wanted());
    }
}

static void run(void)
{
    struct epoll_event events[EVENTS];
    uint64_t second = 0, end_ns = began_ns + options.seconds * SECOND_NS;
    for (;;) {
        uint64_t now = now_ns();
        each_second(now, &second);
        begin_due(now, end_ns);
        if (now >= end_ns && n_answered == n_sent &&
            (options.rate == 0 || n_sent == requests_wanted())) {
            break;
        }
        check_patience(now);
        struct timespec timeout = sleep_time(now_ns(), second);
        int n = epoll_pwait2(epoll_fd, events, EVENTS, &timeout, NULL);
        if (n < 0 && errno != EINTR) {
            fail("epoll: %s", strerror(errno));
        }
        for (int i = 0; i < n; i++) {
            struct connection *connection = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) {
                send_more(connection);
            }
            if (events[i].events & ~(uint32_t)EPOLLOUT) {
                receive(connection);
            }
        }
    }
}

static void print_result(void)
{
    double seconds = (double)(last_answer_ns - began_ns) / (double)SECOND_NS;
    printf("{\"rate\":%" PRIu64 ",\"connections\":%" PRIu64 ",\"requests\":%" PRIu64
           ",\"seconds\":%.3f,\"requests_per_s\":%.1f,",
           options.rate, options.connections, n_answered, seconds, (double)n_answered / seconds);
    print_times(&total);
    printf(",\"late_p50_us\":%.1f,\"late_p99_us\":%.1f}\n", times_us(&late, 0.5),
           times_us(&late, 0.99));
}

/* --- Start --- */

static void connect_all(void)
{
    struct addrinfo *address, hints = {.ai_socktype = SOCK_STREAM};
    int why = getaddrinfo(options.host, options.port, &hints, &address);
    if (why != 0) {
        fail("%s: %s", options.host, gai_strerror(why));
    }
    for (uint64_t i = 0; i < options.connections; i++) {
        const int on = 1;
        struct connection *connection = calloc(1, sizeof *connection);
        if (connection == NULL) {
            fail("out of memory");
        }
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        connection->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connection->fd < 0 ||
            connect(connection->fd, address->ai_addr, address->ai_addrlen) != 0 ||
            setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
            fcntl(connection->fd, F_SETFL, O_NONBLOCK) != 0 ||
            epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) != 0) {
            fail("%s:%s: %s", options.host, options.port, strerror(errno));
        }
        STAILQ_INSERT_TAIL(&idle, connection, link);
    }
    freeaddrinfo(address);
}

static struct file file_map(const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) {
        fail("%s: %s", path, strerror(errno));
    }
    struct file file = {"", (size_t)status.st_size};
    if (file.size > 0) {
        file.data = mmap(NULL, file.size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    }
    if (file.data == MAP_FAILED) {
        fail("%s: %s", path, strerror(errno));
    }
    close(fd);
    return file;
}

static uint64_t number(const char *text)
{
    char *end;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end != '\0' || errno != 0 || n > 1000000000) {
        fail("%s: not a number", text);
    }
    return n;
}

static void parse_url(const char *url)
{
    int n =
        sscanf(url, "http://%255[^:/]:%15[0-9]%1023s", options.host, options.port, options.path);
    if (n < 2) {
        fail("%s: not like http://HOST:PORT/PATH", url);
    }
    if (options.requests.data == NULL) {
        static char request[2048];
        options.request_bytes =
            (size_t)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%s\r\n\r\n",
                             n == 3 ? options.path : "/", options.host, options.port);
        options.requests = (struct file){request, options.request_bytes};
    }
}

static void parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"rate", required_argument, NULL, 'r'},          {"seconds", required_argument, NULL, 's'},
        {"connections", required_argument, NULL, 'c'},   {"requests", required_argument, NULL, 'f'},
        {"request-bytes", required_argument, NULL, 'b'}, {"expect", required_argument, NULL, 'e'},
        {"each-second", no_argument, NULL, '1'},         {NULL, 0, NULL, 0},
    };
    for (int c = 0; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'r':
            options.rate = number(optarg);
            break;
        case 's':
            options.seconds = number(optarg);
            break;
        case 'c':
            options.connections = number(optarg);
            break;
        case 'f':
            options.requests = file_map(optarg);
            break;
        case 'b':
            options.request_bytes = number(optarg);
            break;
        case 'e':
            options.expect = file_map(optarg);
            options.expects = true;
            break;
        case '1':
            options.each_second = true;
            break;
        default:
            exit(2);
        }
    }
    if (optind + 1 != argc || options.connections == 0 || options.seconds == 0) {
        fail("usage: bench_openloop [OPTION...] http://HOST:PORT[/PATH]; bench_openloop.c says "
             "more");
    }
    parse_url(argv[optind]);
    if (options.request_bytes == 0 || options.requests.size % options.request_bytes != 0 ||
        options.requests.size == 0) {
        fail("--requests wants whole requests of --request-bytes");
    }
}

int main(int argc, char **argv)
{
    struct rlimit descriptors;
    parse(argc, argv);
    if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
        descriptors.rlim_cur = descriptors.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &descriptors);
    }
    (void)prctl(PR_SET_TIMERSLACK, 1UL); /* sleeps end when they should */
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    connect_all();
    began_ns = last_answer_ns = now_ns();
    run();
    print_result();
    return 0;
}
