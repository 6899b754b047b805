/*
 * bytes.h - a run of bytes that somebody else owns, and little-endian numbers in files.
 *
 * Threads:   any thread; nothing here has state.
 * Ownership: `struct bytes` borrows; whoever hands one out says how long it lives.
 * Errors:    none.
 */
#ifndef VARVE_STORE_BASE_BYTES_H
#define VARVE_STORE_BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER != __LITTLE_ENDIAN
#    error "varve reads its files in place and needs a little-endian machine"
#endif

/* `size` bytes at `data`; data may be NULL only if size is 0. */
struct bytes {
    const void *data;
    size_t size;
};

static inline struct bytes bytes_of(const void *data, size_t size)
{
    return (struct bytes){.data = data, .size = size};
}

static inline struct bytes bytes_of_text(const char *text)
{
    return bytes_of(text, strlen(text));
}

/* Bytewise order, a prefix sorts before what it begins: < 0, 0 or > 0. */
static inline int bytes_compare(struct bytes a, struct bytes b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0) {
        return order;
    }
    return a.size < b.size ? -1 : a.size > b.size;
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* True if all of them are 0. */
static inline bool bytes_are_zero(const void *data, size_t size)
{
    const uint8_t *at = data;
    return size == 0 || (at[0] == 0 && memcmp(at, at + 1, size - 1) == 0);
}

/* The first 8 bytes as a number that orders as the bytes do (shorter runs are filled with 0). */
static inline uint64_t bytes_prefix(struct bytes b)
{
    uint64_t prefix = 0;
    if (b.size > 0) {
        memcpy(&prefix, b.data, b.size < sizeof prefix ? b.size : sizeof prefix);
    }
    return be64toh(prefix);
}

/* Numbers at any alignment. */
static inline uint16_t load_u16(const void *at)
{
    uint16_t n;
    memcpy(&n, at, sizeof n);
    return n;
}

static inline uint32_t load_u32(const void *at)
{
    uint32_t n;
    memcpy(&n, at, sizeof n);
    return n;
}

static inline uint64_t load_u64(const void *at)
{
    uint64_t n;
    memcpy(&n, at, sizeof n);
    return n;
}

static inline void store_u16(void *at, uint16_t n)
{
    memcpy(at, &n, sizeof n);
}

static inline void store_u32(void *at, uint32_t n)
{
    memcpy(at, &n, sizeof n);
}

static inline void store_u64(void *at, uint64_t n)
{
    memcpy(at, &n, sizeof n);
}

/* `n` rounded up to the next multiple of 8. */
static inline uint64_t align8(uint64_t n)
{
    return (n + 7) & ~UINT64_C(7);
}

#endif
