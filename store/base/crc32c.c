/* crc32c.c - ISA-L's crc32_iscsi() behind the usual convention. */
#include "store/base/crc32c.h"

#include <isa-l/crc.h>

/* ISA-L takes its size as an int. */
#define PIECE_BYTES ((size_t)1 << 30)

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    /* ISA-L takes a pointer to non-const, but only reads; it may be given no NULL. */
    unsigned char *at = (unsigned char *)data;
    /* It works on the bare register: RFC 3720 starts it with ones and inverts it at the end.
     * Undoing the inversion first makes checksums continue. */
    uint32_t state = ~crc;

    while (size > 0) {
        size_t piece = size < PIECE_BYTES ? size : PIECE_BYTES;
        state = crc32_iscsi(at, (int)piece, state);
        at += piece;
        size -= piece;
    }
    return ~state;
}
