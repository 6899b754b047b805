#include "tests/support/raw_http.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { PATIENCE_S = 10 };

struct raw_connection raw_connect(uint16_t port)
{
    struct raw_connection connection = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct timeval patience = {.tv_sec = PATIENCE_S};

    assert(connection.fd >= 0);
    int failed = connect(connection.fd, (struct sockaddr *)&address, sizeof address);
    assert(failed == 0);
    setsockopt(connection.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(connection.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return connection;
}

void raw_close(struct raw_connection *connection)
{
    close(connection->fd);
    free(connection->bytes);
    free(connection->head);
    free(connection->body);
    *connection = (struct raw_connection){.fd = -1};
}

bool raw_send(struct raw_connection *connection, const void *bytes, size_t len)
{
    const char *at = bytes;

    while (len > 0) {
        ssize_t n = send(connection->fd, at, len, MSG_NOSIGNAL);

        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

bool raw_send_text(struct raw_connection *connection, const char *text)
{
    return raw_send(connection, text, strlen(text));
}

/* Reads some more; false at the end. */
static bool fill(struct raw_connection *connection)
{
    if (connection->room - connection->len < 65536) {
        connection->room = 2 * connection->room + 65536 + 1;
        connection->bytes = realloc(connection->bytes, connection->room);
        assert(connection->bytes != NULL);
    }
    ssize_t n = recv(connection->fd, connection->bytes + connection->len,
                     connection->room - connection->len - 1, 0);
    if (n <= 0) {
        return false;
    }
    connection->len += (size_t)n;
    connection->bytes[connection->len] = '\0';
    return true;
}

static char *take(struct raw_connection *connection, size_t len)
{
    char *taken = malloc(len + 1);

    assert(taken != NULL);
    if (len > 0) {
        memcpy(taken, connection->bytes, len);
        memmove(connection->bytes, connection->bytes + len, connection->len - len + 1);
    }
    taken[len] = '\0';
    connection->len -= len;
    return taken;
}

static bool receive_head(struct raw_connection *connection)
{
    const char *end = NULL;

    while (connection->len == 0 ||
           (end = memmem(connection->bytes, connection->len, "\r\n\r\n", 4)) == NULL) {
        if (!fill(connection)) {
            return false;
        }
    }
    free(connection->head);
    connection->head = take(connection, (size_t)(end - connection->bytes) + 4);
    return true;
}

static unsigned status_of(const struct raw_connection *connection)
{
    return strncmp(connection->head, "HTTP/1.1 ", 9) == 0
               ? (unsigned)strtoul(connection->head + 9, NULL, 10)
               : 0;
}

const char *raw_field(struct raw_connection *connection, const char *name)
{
    static char value[8192];
    size_t len = strlen(name);

    for (const char *line = strstr(connection->head, "\r\n"); line != NULL;
         line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            size_t value_len = strcspn(line + len + 2, "\r");

            assert(value_len < sizeof value);
            memcpy(value, line + len + 2, value_len);
            value[value_len] = '\0';
            return value;
        }
    }
    return NULL;
}

unsigned raw_receive_interim(struct raw_connection *connection)
{
    return receive_head(connection) ? status_of(connection) : 0;
}

unsigned raw_receive(struct raw_connection *connection, bool to_head)
{
    if (!receive_head(connection)) {
        return 0;
    }
    unsigned status = status_of(connection);
    const char *length = raw_field(connection, "Content-Length");
    size_t size = length == NULL || to_head || status == 304 ? 0 : strtoul(length, NULL, 10);

    while (connection->len < size) {
        if (!fill(connection)) {
            return 0;
        }
    }
    free(connection->body);
    connection->body = take(connection, size);
    connection->body_len = size;
    return status;
}

unsigned raw_ask(struct raw_connection *connection, const char *request)
{
    raw_send_text(connection, request);
    return raw_receive(connection, strncmp(request, "HEAD ", 5) == 0);
}

bool raw_ended(struct raw_connection *connection)
{
    char byte;

    return connection->len == 0 && recv(connection->fd, &byte, 1, 0) == 0;
}
