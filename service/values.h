/*
 * values.h - text to value and back, for options: sizes, durations, counts, addresses.
 *
 * Threads:   any thread.
 * Ownership: nothing is kept; results are plain values.
 * Errors:    parsers return false and leave the result alone. They take the whole text or
 *            nothing: no leading or trailing spaces, no sign, no overflow.
 */
#ifndef SERVICE_VALUES_H
#define SERVICE_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "store/base/err.h"

/* An address to listen on: numeric IPv4 or IPv6, and a port. */
struct address {
    struct sockaddr_storage sockaddr;
    socklen_t length; /* bytes of sockaddr in use */
};

/* Enough for any address_format(): "[" IPv6 "%" scope "]:" port. */
enum { ADDRESS_TEXT_BYTES = 80 };

/* Enough for any size_format() or duration_format(). */
enum { VALUE_TEXT_BYTES = 32 };

/* "4096": decimal digits. */
MUST_USE bool count_parse(const char *text, uint64_t *ret_count);

/* "64MiB": digits, then nothing or B (bytes), KiB, MiB, GiB, TiB. */
MUST_USE bool size_parse(const char *text, uint64_t *ret_bytes);

/* "10s": digits, then ms, s, m or h; 0 may stand alone. A bare number is refused, because
 * whoever writes it has a unit in mind that we would have to guess. */
MUST_USE bool duration_parse(const char *text, uint64_t *ret_ms);

/* "127.0.0.1:7070", "[::1]:7070", "localhost:7070" (which is 127.0.0.1). Port 0 lets the
 * kernel choose. Other names are refused: an address to listen on should not hang on DNS. */
MUST_USE bool address_parse(const char *text, struct address *ret_address);

/* The largest unit that divides the value: 65536 is "64KiB", 1000 is "1000B". */
void size_format(uint64_t bytes, char text[static VALUE_TEXT_BYTES]);
void duration_format(uint64_t ms, char text[static VALUE_TEXT_BYTES]);

/* As address_parse() takes it. */
void address_format(const struct address *address, char text[static ADDRESS_TEXT_BYTES]);

/* Whether only this machine can reach it: 127.0.0.0/8, ::1, and the former mapped into IPv6. */
bool address_is_loopback(const struct address *address);

/* The port, in host order. */
uint16_t address_port(const struct address *address);

#endif
