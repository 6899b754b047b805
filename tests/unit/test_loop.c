/* A loop whose thread is held up, as by a page that must come from a slow disk. */
#include "service/loop.h"

#include <netinet/in.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/check.h"

enum { PATIENCE_S = 60 };

struct held {
    struct MHD_Daemon *daemon;
    struct loop loop;
    int listen_fd;
    sem_t in_handler; /* posted by the handler of /held, which then waits… */
    sem_t go_on;      /* …for this */
};

static enum MHD_Result handle(void *arg, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *size, void **seen)
{
    struct held *held = arg;
    (void)method, (void)version, (void)data, (void)size;
    if (*seen == NULL) {
        *seen = held;
        return MHD_YES;
    }
    if (strcmp(url, "/held") == 0) {
        sem_post(&held->in_handler);
        while (sem_wait(&held->go_on) != 0) {
        }
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_NO_CONTENT, response);
    MHD_destroy_response(response);
    return result;
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void start(struct held *held)
{
    const struct sockaddr_in any_port = loopback(0);
    memset(held, 0, sizeof *held);
    sem_init(&held->in_handler, 0, 0);
    sem_init(&held->go_on, 0, 0);
    held->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, handle,
                                    held, MHD_OPTION_SOCK_ADDR, &any_port, MHD_OPTION_END);
    assert_non_null(held->daemon);
    held->listen_fd = MHD_get_daemon_info(held->daemon, MHD_DAEMON_INFO_LISTEN_FD)->listen_fd;
    assert_ok(loop_start(&held->loop, held->daemon));
}

static int client(const struct held *held)
{
    const struct sockaddr_in address =
        loopback(MHD_get_daemon_info(held->daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    return fd;
}

static void ask(int fd, const char *path)
{
    char request[64];
    int size =
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    assert_int_equal(send(fd, request, (size_t)size, MSG_NOSIGNAL), size);
}

static void expect_answer(int fd)
{
    static const char expected[] = "HTTP/1.1 204";
    char answer[512] = "";
    assert_true(recv(fd, answer, sizeof answer - 1, 0) > 0);
    assert_memory_equal(answer, expected, sizeof expected - 1);
}

static void hold(struct held *held, int fd)
{
    ask(fd, "/held");
    while (sem_wait(&held->in_handler) != 0) {
    }
}

/* Regression: while a worker waited for the disk, a server that was told to stop waited for the
 * worker, whatever its drain timeout, and heard no second signal. */
static void quiescing_waits_for_nobody(void **state)
{
    struct held held;
    (void)state;
    start(&held);
    int fd = client(&held);
    hold(&held, fd);
    loop_quiesce(&held.loop); /* returned never */
    sem_post(&held.go_on);
    expect_answer(fd);
    loop_stop(&held.loop);
    close(fd);
    assert_int_equal(close(held.listen_fd), 0); /* a quiesced daemon leaves it open */
}

/* Regression: libmicrohttpd takes 128 events at a time, and when it got exactly as many it waits
 * for more before it deals with them. */
static void as_many_events_as_the_library_takes_wait_for_no_more(void **state)
{
    enum { EVENTS = 128 };
    struct held held;
    int fds[EVENTS];
    (void)state;
    start(&held);
    int holder = client(&held);
    for (int i = 0; i < EVENTS; i++) {
        fds[i] = client(&held);
        ask(fds[i], "/");
        expect_answer(fds[i]);
    }
    hold(&held, holder);
    for (int i = 0; i < EVENTS; i++) {
        ask(fds[i], "/");
    }
    sem_post(&held.go_on);
    for (int i = 0; i < EVENTS; i++) {
        expect_answer(fds[i]);
    }
    loop_stop(&held.loop);
    for (int i = 0; i < EVENTS; i++) {
        close(fds[i]);
    }
    close(holder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quiescing_waits_for_nobody),
        cmocka_unit_test(as_many_events_as_the_library_takes_wait_for_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
