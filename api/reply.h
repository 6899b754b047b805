/*
 * reply.h - answers: a status, fields, and a body that is sent from where it lies.
 *
 * An answer is built, gets its fields, and is queued; what went wrong on the way is remembered
 * and comes out as a 503 at the end, so that nobody has to look in between.
 *
 * Threads:   the connection's thread.
 * Ownership: each maker says what becomes of the body. reply_queue() consumes the reply.
 * Errors:    out of memory only, kept in `ok`.
 */
#ifndef API_REPLY_H
#define API_REPLY_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>

#include "api/request.h"
#include "store/store.h"

struct reply {
    struct MHD_Response *response; /* NULL only where !ok */
    size_t body_bytes;
    bool ok;
};

/* No body. */
struct reply reply_empty(void);

/* A body on the heap, which the reply takes over, also where it fails. NULL is out of memory. */
struct reply reply_text(char *text, size_t size);

/* A body that lives for ever. */
struct reply reply_static(const void *data, size_t size);

/* The entry's value, sent from where the engine has it. Takes over the entry, which is on the heap,
 * and gives its pin back after the last byte. */
struct reply reply_entry(struct store_entry *entry);

/* Adds a field; the text is copied. */
void reply_add(struct reply *reply, const char *name, const char *value);
void reply_add_text(struct reply *reply, const char *name, const struct store_text *value);

/* Adds what every answer carries and hands it to libmicrohttpd. */
void reply_queue(struct request *request, unsigned status, struct reply *reply);

/* Answers with what request_fail() noted. */
void reply_problem(struct request *request);

/* The answer for which no memory is needed; NULL when out of memory. */
struct MHD_Response *reply_new_out_of_memory(void);

#endif
