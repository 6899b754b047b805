/* items.c - keys and values of the benchmarks. */
#include "tests/bench/items.h"

#include "tests/bench/measure.h"
#include "tests/support/random.h"

struct bytes item_key(uint64_t number, char text[static ITEM_KEY_BYTES])
{
    for (size_t at = ITEM_KEY_BYTES; at-- > 0; number /= 10) {
        text[at] = (char)('0' + number % 10);
    }
    return bytes_of(text, ITEM_KEY_BYTES);
}

uint64_t item_number(struct bytes key)
{
    uint64_t number = 0;
    measure_check(key.size == ITEM_KEY_BYTES, "item", "a key of a wrong size");
    for (size_t i = 0; i < key.size; i++) {
        unsigned digit = ((const uint8_t *)key.data)[i] - (unsigned)'0';
        measure_check(digit < 10, "item", "a key that isn't one");
        number = number * 10 + digit;
    }
    return number;
}

/* A Feistel network permutes the numbers of an even count of bits; one that comes out too high is
 * put in again until it doesn't, which permutes those below n. */
uint64_t item_shuffled(uint64_t i, uint64_t n)
{
    unsigned half = 1;
    while (n > UINT64_C(1) << 2 * half) {
        half++;
    }
    uint64_t mask = (UINT64_C(1) << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < 3; round++) {
            uint64_t next = left ^ (scramble64(right << 2 | round) & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

/* Words of the first half, the version's included. */
static size_t random_words(size_t size)
{
    return size / 2 / sizeof(uint64_t);
}

static uint64_t word(uint64_t number, uint64_t version, size_t i)
{
    return scramble64(number * UINT64_C(1000003) + version * UINT64_C(8191) + i);
}

struct bytes item_value(uint64_t number, uint64_t version, void *into, size_t size)
{
    uint8_t *at = into;
    size_t words = random_words(size);
    store_u64(at, version);
    for (size_t i = 1; i < words; i++) {
        store_u64(at + i * sizeof(uint64_t), word(number, version, i));
    }
    memset(at + words * sizeof(uint64_t), 'v', size - words * sizeof(uint64_t));
    return bytes_of(into, size);
}

uint64_t item_check(uint64_t number, struct bytes value, size_t size)
{
    const uint8_t *at = value.data;
    size_t words = random_words(size), rest = words * sizeof(uint64_t);
    measure_check(value.size == size, "item", "a value of a wrong size");
    uint64_t version = load_u64(at), wrong = 0;
    for (size_t i = 1; i < words; i++) {
        wrong |= load_u64(at + i * sizeof(uint64_t)) ^ word(number, version, i);
    }
    measure_check(wrong == 0 && at[rest] == 'v' &&
                      memcmp(at + rest, at + rest + 1, size - rest - 1) == 0,
                  "item", "a value with wrong bytes");
    return version;
}

void item_put(const struct engine *engine, void *session, uint64_t number, uint64_t version,
              size_t size)
{
    char key[ITEM_KEY_BYTES], value[ITEM_VALUE_MAX_BYTES];
    engine->put(session, item_key(number, key), item_value(number, version, value, size));
}

struct expected {
    uint64_t number, version;
    size_t size;
};

static void check_got(void *arg, struct bytes key, struct bytes value)
{
    struct expected *expected = arg;
    (void)key;
    expected->version = item_check(expected->number, value, expected->size);
}

uint64_t item_get(const struct engine *engine, void *session, uint64_t number, size_t size)
{
    char key[ITEM_KEY_BYTES];
    struct expected expected = {.number = number, .size = size};
    bool found = engine->get(session, item_key(number, key), check_got, &expected);
    return found ? expected.version : UINT64_MAX;
}

static void check_scanned(void *arg, struct bytes key, struct bytes value)
{
    struct expected *expected = arg;
    measure_check(item_number(key) == expected->number, "scan", "an item out of order, or a gap");
    (void)item_check(expected->number, value, expected->size);
    expected->number += 2;
}

uint64_t item_scan(const struct engine *engine, void *session, uint64_t from, uint64_t n,
                   size_t size)
{
    char key[ITEM_KEY_BYTES];
    struct expected expected = {.number = from, .size = size};
    return engine->scan(session, item_key(from, key), n, check_scanned, &expected);
}
