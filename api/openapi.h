/*
 * openapi.h - api/openapi.yaml, as it was when the program was built.
 *
 * Threads:   any thread.
 * Ownership: static.
 * Errors:    none.
 */
#ifndef API_OPENAPI_H
#define API_OPENAPI_H

#include <stddef.h>

const char *openapi_text(void);
size_t openapi_size(void);

#endif
