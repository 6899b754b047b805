/*
 * raw_http.h - HTTP by hand: for requests that no library would send, and answers looked at byte by
 * byte.
 *
 * Threads:   a connection belongs to one thread at a time.
 * Ownership: raw_close() frees everything, answers too; an answer lives until the next one.
 * Errors:    reading gives up after ten seconds; the connection then counts as ended.
 */
#ifndef VARVE_TESTS_SUPPORT_RAW_HTTP_H
#define VARVE_TESTS_SUPPORT_RAW_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct raw_connection {
    int fd;
    char *bytes; /* what was read and not yet consumed, terminated */
    size_t len, room;
    char *head; /* of the last answer: status line and fields, terminated */
    char *body;
    size_t body_len;
};

/* To 127.0.0.1. */
struct raw_connection raw_connect(uint16_t port);
void raw_close(struct raw_connection *connection);

/* Sends all; false where the other side has closed. */
bool raw_send(struct raw_connection *connection, const void *bytes, size_t len);
bool raw_send_text(struct raw_connection *connection, const char *text);

/* Reads one answer (not 1xx); its status, or 0 where the connection ended before it was whole.
 * `to_head`: it has no body, whatever its fields say. */
unsigned raw_receive(struct raw_connection *connection, bool to_head);

/* Reads a 1xx answer: its status, or 0. */
unsigned raw_receive_interim(struct raw_connection *connection);

/* Sends and receives; HEAD is recognized. */
unsigned raw_ask(struct raw_connection *connection, const char *request);

/* The value of a field of the last answer, NULL where it has none. Lives until the next call. */
const char *raw_field(struct raw_connection *connection, const char *name);

/* True once the other side has closed, with nothing left to read. */
bool raw_ended(struct raw_connection *connection);

#endif
