/*
 * crc32c.h - CRC-32C (Castagnoli), by ISA-L at memory speed.
 *
 * Source:  RFC 3720 appendix B.4 has the polynomial and test vectors.
 * Threads: any thread.
 * Errors:  none.
 */
#ifndef VARVE_STORE_BASE_CRC32C_H
#define VARVE_STORE_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Returns the checksum of what `crc` covers followed by `size` bytes at `data`; 0 covers nothing.
 * crc32c(crc32c(0, a), b) is the checksum of a and b joined. A seed is covered as its bytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

#endif
