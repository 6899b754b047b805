/* Clients that go away while their write waits for the disk. */
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/http/fixture.h"

enum { CLIENTS = 64, ROUNDS = 40 };

/* Regression: libmicrohttpd ends the request of a resumed connection without calling the handler
 * when it finds the client gone; the server took that for impossible and aborted. */
static void outlives_clients_that_reset_while_suspended(void **state)
{
    struct fixture *fixture = *state;
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    for (unsigned round = 0; round < ROUNDS; round++) {
        int sockets[CLIENTS];
        for (unsigned i = 0; i < CLIENTS; i++) {
            char request[200];
            snprintf(
                request, sizeof request,
                "PUT /kv/vanish-%u HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
                i);
            sockets[i] = raw_connect(fixture->server);
            raw_send(sockets[i], request);
        }
        for (unsigned i = 0; i < CLIENTS; i++) {
            setsockopt(sockets[i], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            close(sockets[i]);
        }
        expect_status(fixture->client, round == 0 ? 201 : 204, "PUT", "/kv/vanish", NULL, "here");
    }
    expect_status(fixture->client, 200, "GET", "/kv/vanish", NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outlives_clients_that_reset_while_suspended),
    };
    return cmocka_run_group_tests(tests, group_start, group_stop);
}
