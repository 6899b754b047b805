/*
 * httpdate.h - dates as HTTP writes them (RFC 9110 section 5.6.7).
 *
 * Written is the one preferred form, "Sun, 06 Nov 1994 08:49:37 GMT"; read are the two
 * obsolete ones as well: "Sunday, 06-Nov-94 08:49:37 GMT" and "Sun Nov  6 08:49:37 1994".
 * No locale, no time zone, no system call. Times are seconds since 1970-01-01 UTC.
 *
 * Threads:   any thread.
 * Ownership: the caller's memory.
 * Errors:    none; a text that is not a date is a result.
 */
#ifndef API_HTTPDATE_H
#define API_HTTPDATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTPDATE_SIZE 30

/* Room for "2026-11-23T09:18:05.123Z" and a terminator. */
#define RFC3339_SIZE 25

/* The years 0 to 9999; what lies outside is shown as the nearest second inside. Writes a
 * terminator. Cheap enough for every response: the part of a day is remembered per thread. */
void httpdate_format(int64_t unix_s, char out[HTTPDATE_SIZE]);

/* The same moment as JSON bodies show it, in milliseconds. */
void rfc3339_format(int64_t unix_ms, char out[RFC3339_SIZE]);

/* Reads any of the three forms. `now_s` decides the century of a two-digit year: a date more
 * than 50 years ahead is one in the past. The name of the day must be one, but needn't fit. */
bool httpdate_parse(const char *text, size_t len, int64_t now_s, int64_t *ret_unix_s);

#endif
