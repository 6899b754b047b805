/*
 * What a client sends on one connection, as any bytes, to the whole of api/ behind libmicrohttpd:
 * one request or several, bodies, garbage. The store is a fake that keeps store.h's contract. The
 * client then closes its half. What comes back begins as an answer, no request ends in an error of
 * the server, and everything that was lent out came back.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api.h"
#include "tests/support/fake_store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { POOL_BYTES = 16384, INPUT_BYTES = 65536, VALUE_BYTES_MAX = 10000, ROUNDS_MAX = 100000 };

static struct api *api;
static struct MHD_Daemon *daemon_of_api;

static void page(void *arg, struct MHD_Connection *connection, enum api_route route,
                 const struct api_probe_query *query, struct api_page *ret_page)
{
    (void)arg;
    (void)connection;
    (void)route;
    ret_page->status = query->write ? 503 : 200;
    ret_page->text = strdup(query->verbose ? "verbose\n" : "ok\n");
    ret_page->text_bytes = strlen(ret_page->text);
}

/* With this store and these limits nothing can fail on our side. */
static void finished(void *arg, struct MHD_Connection *connection,
                     const struct api_outcome *outcome)
{
    (void)arg;
    (void)connection;
    assert(outcome->err == ERR_OK || outcome->err == ERR_TOO_LARGE || outcome->err == ERR_INVALID);
    assert(outcome->status < 500 || outcome->route == API_ROUTE_READYZ);
    assert(outcome->problem == PROBLEM_NONE || outcome->status == 0 ||
           outcome->status == problem_kind(outcome->problem)->status);
}

static void set_up(void)
{
    struct api_config config = api_config_default();

    config.version = "1.2.3";
    config.max_value_bytes = VALUE_BYTES_MAX;
    config.drop_bytes_max = 4ULL * VALUE_BYTES_MAX;
    config.policy.local_hosts_only = true;
    config.hooks = (struct api_hooks){.page = page, .finished = finished};
    api = api_new(&config);
    assert(api != NULL);
    daemon_of_api =
        MHD_start_daemon(MHD_USE_NO_LISTEN_SOCKET | MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0,
                         NULL, NULL, api_handle, api, MHD_OPTION_URI_LOG_CALLBACK, api_begin, api,
                         MHD_OPTION_NOTIFY_COMPLETED, api_end, api, MHD_OPTION_UNESCAPE_CALLBACK,
                         api_keep_escapes, api, MHD_OPTION_STRICT_FOR_CLIENT, -1,
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES, MHD_OPTION_END);
    assert(daemon_of_api != NULL);
}

/* The client's end of a connection whose other end the daemon has. */
static int connect_client(void)
{
    struct sockaddr address = {.sa_family = AF_UNIX};
    int ends[2];
    int status = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends);

    assert(status == 0);
    status = MHD_add_connection(daemon_of_api, ends[1], &address, sizeof(sa_family_t));
    assert(status == MHD_YES);
    return ends[0];
}

/* Takes what has come; false once the other side has closed. */
static bool receive(int client, bool *first)
{
    char bytes[16384];
    ssize_t got = recv(client, bytes, sizeof(bytes), 0);

    if (got > 0 && *first) {
        assert(strncmp(bytes, "HTTP/1.", 7) == 0 && got > 20);
        *first = false;
    }
    return got > 0 || (got < 0 && errno == EAGAIN);
}

static void converse(const uint8_t *data, size_t size)
{
    int client = connect_client();
    bool first = true;
    size_t sent = 0;
    int rounds = 0;

    do {
        ssize_t n = sent < size ? send(client, data + sent, size - sent, MSG_NOSIGNAL) : 0;

        sent = n > 0 ? sent + (size_t)n : n < 0 && errno != EAGAIN ? size : sent;
        if (sent == size)
            (void)shutdown(client, SHUT_WR);
        MHD_run(daemon_of_api);
        rounds++;
        assert(rounds < ROUNDS_MAX);
    } while (receive(client, &first));
    close(client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct store *store = fake_store_new();

    if (api == NULL)
        set_up();
    fake_store_put(store, bytes_of_text("a"), bytes_of_text("value"));
    fake_store_put(store, bytes_of("\xFF", 1), bytes_of_text(""));
    api_set_store(api, store);
    converse(data, size < INPUT_BYTES ? size : INPUT_BYTES);
    while (
        MHD_get_daemon_info(daemon_of_api, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections >
        0)
        MHD_run(daemon_of_api);
    assert(api_waiting(api) == 0);
    assert(fake_store_lent(store) == 0 && fake_store_writes_open(store) == 0);
    fake_store_free(store);
    return 0;
}
