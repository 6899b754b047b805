#include "api/openapi.h"

/* The assembler reads the file; OPENAPI_FILE is its path, set where this source is listed. */
__asm__(".section .rodata.openapi, \"a\", @progbits\n"
        "openapi_begin:\n"
        ".incbin \"" OPENAPI_FILE "\"\n"
        "openapi_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const char openapi_begin[] __attribute__((visibility("hidden")));
extern const char openapi_end[] __attribute__((visibility("hidden")));

const char *openapi_text(void)
{
    return openapi_begin;
}

size_t openapi_size(void)
{
    return (size_t)(openapi_end - openapi_begin);
}
