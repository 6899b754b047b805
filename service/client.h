/*
 * client.h - HTTP requests that the program makes itself, by libcurl.
 *
 * Threads:   the main thread.
 * Ownership: answers are plain values.
 * Errors:    ERR_IO: no answer; the detail says why. Any status is an answer.
 */
#ifndef SERVICE_CLIENT_H
#define SERVICE_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/err.h"

struct client_answer {
    unsigned status;
    char text[256]; /* the body's first line, cut off where longer, control characters as ? */
};

/* GET of an http: or https: URL, which may take `timeout_ms` in all. Proxies are not asked: the
 * environment's are for others. May block. */
MUST_USE enum err client_get(const char *url, uint64_t timeout_ms, struct client_answer *ret_answer,
                             struct err_detail *detail);

#endif
