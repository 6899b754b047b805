/* A loop whose thread is held up, as by a page that must come from a slow disk. */
#include "service/loop.h"

#include <netinet/in.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/check.h"

struct held {
    struct MHD_Daemon *daemon;
    struct loop loop;
    int listen_fd;
    sem_t in_handler; /* posted by the handler, which then waits… */
    sem_t go_on;      /* …for this */
};

static enum MHD_Result handle(void *arg, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *size, void **seen)
{
    struct held *held = arg;
    (void)url, (void)method, (void)version, (void)data, (void)size;
    if (*seen == NULL) {
        *seen = held;
        return MHD_YES;
    }
    sem_post(&held->in_handler);
    while (sem_wait(&held->go_on) != 0) {
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

static int ask_something(struct MHD_Daemon *daemon)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    const struct sockaddr_in address =
        loopback(MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    return fd;
}

/* Regression: while a worker waited for the disk, a server that was told to stop waited for the
 * worker, whatever its drain timeout, and heard no second signal. */
static void quiescing_waits_for_nobody(void **state)
{
    const struct sockaddr_in any_port = loopback(0);
    struct held held = {0};
    char answer[16] = "";
    (void)state;
    sem_init(&held.in_handler, 0, 0);
    sem_init(&held.go_on, 0, 0);
    held.daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, handle,
                                   &held, MHD_OPTION_SOCK_ADDR, &any_port, MHD_OPTION_END);
    assert_non_null(held.daemon);
    held.listen_fd = MHD_get_daemon_info(held.daemon, MHD_DAEMON_INFO_LISTEN_FD)->listen_fd;
    assert_ok(loop_start(&held.loop, held.daemon));
    int fd = ask_something(held.daemon);
    while (sem_wait(&held.in_handler) != 0) {
    }
    loop_quiesce(&held.loop); /* returned never */
    sem_post(&held.go_on);
    assert_true(recv(fd, answer, 12, MSG_WAITALL) == 12);
    assert_string_equal(answer, "HTTP/1.1 204");
    loop_stop(&held.loop);
    close(fd);
    assert_int_equal(close(held.listen_fd), 0); /* a quiesced daemon leaves it open */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quiescing_waits_for_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
