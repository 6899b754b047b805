/* Requests written by hand on a socket, and answers read from it byte by byte. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/http/support.h"
#include "tests/support/check.h"

enum { HEAD_BYTES = 65536 };

int raw_connect(const struct server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(server_port(server)),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return fd;
}

/* Stops early where the server has closed: that shows when the answer is read. */
void raw_send_bytes(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n < 0) {
            return;
        }
        at += n;
        size -= (size_t)n;
    }
}

void raw_send(int fd, const char *text)
{
    raw_send_bytes(fd, text, strlen(text));
}

/* As recv(), 0 also for a reset; fails the test when nothing comes. */
static size_t receive(int fd, void *into, size_t size)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (poll(&wait, 1, PATIENCE_MS) <= 0) {
        fail_msg("the server neither answers nor closes the connection");
    }
    ssize_t n = recv(fd, into, size, 0);
    return n > 0 ? (size_t)n : 0;
}

/* Reads up to the empty line; false if the connection ended before. */
static bool read_head(int fd, struct reply *reply)
{
    char *head = calloc(1, HEAD_BYTES);
    assert_non_null(head);
    reply->head = head;
    for (size_t n = 0; n + 1 < HEAD_BYTES; n++) {
        if (receive(fd, head + n, 1) == 0) {
            return false;
        }
        if (n >= 3 && memcmp(head + n - 3, "\r\n\r\n", 4) == 0) {
            reply->status = (unsigned)strtoul(head + strcspn(head, " "), NULL, 10);
            return true;
        }
    }
    fail_msg("endless head: %.200s", head);
    return false;
}

static void read_body(int fd, struct reply *reply)
{
    const char *length = reply_field(reply, "Content-Length");
    size_t wanted = length != NULL ? strtoull(length, NULL, 10) : SIZE_MAX;
    size_t room = length != NULL ? wanted : (size_t)1 << 20;
    reply->body = calloc(1, room + 1);
    assert_non_null(reply->body);
    while (reply->size < room) {
        size_t n = receive(fd, reply->body + reply->size, room - reply->size);
        reply->closed = n == 0;
        if (n == 0) {
            break;
        }
        reply->size += n;
    }
    if (reply->size < wanted && length != NULL) {
        reply->status = 0;
        (void)snprintf(reply->error, sizeof reply->error, "body cut off after %zu of %zu bytes\n",
                       reply->size, wanted);
    }
}

static struct reply read_reply(int fd, bool to_head)
{
    struct reply reply = {0};
    if (!read_head(fd, &reply)) {
        reply.closed = true;
        return reply;
    }
    bool without_body = to_head || reply.status < 200 || reply.status == 204 || reply.status == 304;
    if (without_body) {
        reply.body = calloc(1, 1);
    } else {
        read_body(fd, &reply);
    }
    return reply;
}

struct reply raw_reply(int fd)
{
    return read_reply(fd, false);
}

struct reply raw_reply_to_head(int fd)
{
    return read_reply(fd, true);
}

void raw_drop_to_end(int fd)
{
    char bytes[4096];
    while (receive(fd, bytes, sizeof bytes) > 0) {
    }
}

void raw_wait_closed(int fd)
{
    char byte;
    if (receive(fd, &byte, 1) != 0) {
        fail_msg("more bytes where the server should have closed");
    }
}

struct reply raw_last_reply(int fd)
{
    struct reply reply = read_reply(fd, false);
    if (!reply.closed) {
        raw_wait_closed(fd);
        reply.closed = true;
    }
    return reply;
}

struct reply raw_exchange(const struct server *server, const char *text)
{
    int fd = raw_connect(server);
    raw_send(fd, text);
    struct reply reply = read_reply(fd, false);
    close(fd);
    return reply;
}
