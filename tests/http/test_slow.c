/* Clients that send or read less than 1 KiB/s over 30 s: they are cut off, all at the same time, so
 * that this takes half a minute once. */
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/http/fixture.h"

enum { STALLED, TRICKLED, UNREAD, STEADY, CLIENTS };
enum { PAUSE_MS = 500, STEADY_BYTES = 1024, STEADY_LENGTH = 200000 };

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void begin_put(int fd)
{
    raw_send(fd, "PUT /kv/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n");
}

/* By the kernel's word, without reading: the unread answer must stay unread. */
static bool is_closed(int fd)
{
    struct pollfd state = {.fd = fd, .events = POLLRDHUP};
    return poll(&state, 1, 0) > 0;
}

static void clients_below_the_rate_are_cut_off_and_others_not(void **state)
{
    (void)state;
    struct server *server = server_start(NULL);
    struct client *client = client_new(server);
    size_t size = (size_t)16 << 20;
    char *value = calloc(1, size);
    assert_non_null(value);
    struct reply put = client_send(client, "PUT", "/kv/large", NULL, value, size);
    assert_status(&put, 201);
    reply_free(&put);
    int fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = raw_connect(server);
    }
    begin_put(fds[STALLED]);
    begin_put(fds[TRICKLED]);
    begin_put(fds[STEADY]);
    raw_send(fds[UNREAD], "GET /kv/large HTTP/1.1\r\nHost: localhost\r\n\r\n");
    uint64_t began = now_ms();
    uint64_t cut[CLIENTS] = {0};
    size_t sent = 0;
    while (cut[STALLED] == 0 || cut[TRICKLED] == 0 || cut[UNREAD] == 0) {
        assert_true(now_ms() - began < PATIENCE_MS);
        raw_send(fds[TRICKLED], "x");
        raw_send_bytes(fds[STEADY], value, STEADY_BYTES);
        sent += STEADY_BYTES;
        (void)poll(NULL, 0, PAUSE_MS); /* the rate at which this test sends */
        for (int i = 0; i < CLIENTS; i++) {
            if (cut[i] == 0 && is_closed(fds[i])) {
                cut[i] = now_ms() - began;
            }
        }
    }
    assert_in_range(cut[STALLED], 29000, 45000);
    assert_in_range(cut[TRICKLED], 29000, 45000);
    assert_in_range(cut[UNREAD], 29000, 45000);
    assert_int_equal(cut[STEADY], 0);
    raw_send_bytes(fds[STEADY], value, STEADY_LENGTH - sent);
    struct reply reply = raw_reply(fds[STEADY]);
    assert_status(&reply, 201);
    reply_free(&reply);
    for (int i = 0; i < CLIENTS; i++) {
        close(fds[i]);
    }
    free(value);
    client_free(client);
    server_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_below_the_rate_are_cut_off_and_others_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
