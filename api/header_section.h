/*
 * header_section.h - from a complete header section to the handler that will deal with it.
 *
 * Checks what must not pass, finds the route and the handler, decodes key and query, parses the
 * preconditions, and lets the handler begin; the first thing that is wrong is noted.
 *
 * Threads:   the connection's thread.
 * Ownership: everything stays the request's.
 * Errors:    noted in the request.
 */
#ifndef API_HEADER_SECTION_H
#define API_HEADER_SECTION_H

#include "api/request.h"

/* `url` and `version` are libmicrohttpd's own pointers: the space between them shows whether the
 * target was cut. */
void header_section_take(struct request *request, const char *url, const char *method,
                         const char *version);

#endif
