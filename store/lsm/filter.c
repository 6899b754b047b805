/*
 * filter.c - the cache-line-blocked Bloom filter. See FORMAT.md for the bits.
 *
 * The upper half of the hash picks the line, scaled instead of divided; the lower half, spread by a
 * multiplication whose upper bits depend on all of it, gives nine bits for each probe.
 */
#include "store/lsm/filter.h"

#define LINE_BITS (UINT64_C(8) * FILTER_LINE_BYTES)
#define SPREAD    UINT64_C(0x9E3779B97F4A7C15)

_Static_assert(LINE_BITS == 1 << 9, "a probe takes 9 bits");
_Static_assert(FILTER_PROBES * 9 <= 64, "the probes take their bits from one word");

uint64_t filter_size_for(uint64_t keys)
{
    uint64_t bits = keys * FILTER_BITS_PER_KEY;
    uint64_t lines = (bits + LINE_BITS - 1) / LINE_BITS;
    return (lines > 0 ? lines : 1) * FILTER_LINE_BYTES;
}

static uint64_t line_offset(uint64_t size_bytes, uint64_t hash)
{
    uint64_t lines = size_bytes / FILTER_LINE_BYTES;
    return ((hash >> 32) * lines >> 32) * FILTER_LINE_BYTES;
}

static uint64_t spread(uint64_t hash)
{
    return (hash & UINT32_MAX) * SPREAD;
}

static unsigned probe_bit(uint64_t spread_hash, unsigned probe)
{
    return (unsigned)((spread_hash >> (55 - 9 * probe)) % LINE_BITS);
}

void filter_add(uint8_t *filter, uint64_t size_bytes, uint64_t hash)
{
    uint8_t *line = filter + line_offset(size_bytes, hash);
    uint64_t bits = spread(hash);

    for (unsigned i = 0; i < FILTER_PROBES; i++) {
        unsigned bit = probe_bit(bits, i);
        line[bit / 8] = (uint8_t)(line[bit / 8] | 1u << bit % 8);
    }
}

bool filter_may_contain(const uint8_t *filter, uint64_t size_bytes, uint64_t hash)
{
    const uint8_t *line = filter + line_offset(size_bytes, hash);
    uint64_t bits = spread(hash);

    for (unsigned i = 0; i < FILTER_PROBES; i++) {
        unsigned bit = probe_bit(bits, i);
        if ((line[bit / 8] >> bit % 8 & 1) == 0) {
            return false;
        }
    }
    return true;
}
