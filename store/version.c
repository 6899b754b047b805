/* The text of versions, the same for every engine: "<16 hex digits>-<hex digits>". */
#include "store/store.h"

enum {
    EPOCH_DIGITS = 16,
    NUMBER_DIGITS_MAX = 16,
    NUMBER_AT = EPOCH_DIGITS + 1,
};
_Static_assert(NUMBER_AT + NUMBER_DIGITS_MAX < STORE_VERSION_TEXT_BYTES, "no room for the NUL");

/* Writes the low `n` digits of `number`. */
static void write_hex(char *into, uint64_t number, size_t n)
{
    for (size_t i = n; i > 0; i--) {
        into[i - 1] = "0123456789abcdef"[number & 15];
        number >>= 4;
    }
}

static size_t hex_digits(uint64_t number)
{
    size_t n = 1;
    while (number >>= 4) {
        n++;
    }
    return n;
}

static bool read_hex(const char *text, size_t n, uint64_t *ret_number)
{
    uint64_t number = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c >= '0' && c <= '9') {
            number = number << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            number = number << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return false;
        }
    }
    *ret_number = number;
    return true;
}

size_t store_version_format(struct store_version version, char ret_text[STORE_VERSION_TEXT_BYTES])
{
    size_t n = hex_digits(version.number);
    write_hex(ret_text, version.epoch, EPOCH_DIGITS);
    ret_text[EPOCH_DIGITS] = '-';
    write_hex(ret_text + NUMBER_AT, version.number, n);
    ret_text[NUMBER_AT + n] = '\0';
    return NUMBER_AT + n;
}

bool store_version_parse(struct bytes text, struct store_version *ret_version)
{
    const char *at = text.data;
    struct store_version version;

    if (text.size <= NUMBER_AT || text.size > NUMBER_AT + NUMBER_DIGITS_MAX ||
        at[EPOCH_DIGITS] != '-') {
        return false;
    }
    size_t n = text.size - NUMBER_AT;
    if (!read_hex(at, EPOCH_DIGITS, &version.epoch) ||
        !read_hex(at + NUMBER_AT, n, &version.number)) {
        return false;
    }
    /* A version has one text only: no zeros in front. */
    if (n != hex_digits(version.number)) {
        return false;
    }
    *ret_version = version;
    return true;
}
