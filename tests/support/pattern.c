/* pattern.c - the version, then 8 bytes at a time of a hash of (key, version, size, place). */
#include "tests/support/pattern.h"

#include "store/base/crc32c.h"
#include "tests/support/random.h"

static uint64_t seed_of(struct bytes key, uint64_t version, size_t size)
{
    return scramble64(crc32c(0, key.data, key.size) ^ scramble64(version ^ scramble64(size)));
}

/* The 8 bytes at 8 * index. */
static uint64_t word_at(uint64_t seed, uint64_t version, size_t index)
{
    return index == 0 ? version : scramble64(seed + index);
}

void pattern_fill(struct bytes key, uint64_t version, void *into, size_t size)
{
    uint64_t seed = seed_of(key, version, size);
    unsigned char *at = into;

    for (size_t i = 0; size > 0; i++) {
        uint64_t word = word_at(seed, version, i);
        size_t step = size < sizeof word ? size : sizeof word;
        memcpy(at, &word, step);
        at += step;
        size -= step;
    }
}

size_t pattern_mismatch(struct bytes key, uint64_t version, struct bytes value)
{
    uint64_t seed = seed_of(key, version, value.size);
    const unsigned char *data = value.data;

    for (size_t i = 0; i < value.size; i++) {
        uint64_t word = word_at(seed, version, i / sizeof word);
        if (data[i] != (unsigned char)(word >> (8 * (i % sizeof word)))) {
            return i;
        }
    }
    return value.size;
}

bool pattern_matches(struct bytes key, uint64_t version, struct bytes value)
{
    return pattern_mismatch(key, version, value) == value.size;
}

bool pattern_version(struct bytes key, struct bytes value, uint64_t *ret_version)
{
    uint64_t version;

    if (value.size < PATTERN_VERSION_BYTES) {
        return false;
    }
    version = load_u64(value.data);
    if (!pattern_matches(key, version, value)) {
        return false;
    }
    *ret_version = version;
    return true;
}
