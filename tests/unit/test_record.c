/* Records: what goes in comes out, and no changed bit goes unnoticed. */
#include "store/lsm/record.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/crc32c.h"
#include "tests/support/check.h"
#include "tests/support/random.h"

#define KIB UINT64_C(1024)

static const struct record_meta some_meta = {
    .modified_ms = UINT64_C(1700000000123),
    .content_type = {"text/plain; charset=utf-8", 25},
    .content_encoding = {"gzip", 4},
    .cache_control = {"max-age=60", 10},
};

/* The same bytes for the same seed. */
static void fill(void *into, size_t size, uint64_t seed)
{
    struct prng prng;
    prng_init(&prng, seed);
    prng_fill(&prng, into, size);
}

static struct record *new_record_of(enum record_kind kind, uint16_t key_size,
                                    const struct record_meta *meta, uint64_t value_size)
{
    uint8_t key[RECORD_KEY_MAX_BYTES];
    uint64_t size = record_size_for(key_size, meta ? record_meta_size(meta) : 0, value_size);
    struct record *record = malloc(size);

    assert_non_null(record);
    /* Whatever isn't written shows. */
    memset(record, 0xA5, size);
    fill(key, key_size, key_size);
    void *value = record_init(record, kind, bytes_of(key, key_size), meta, value_size);
    fill(value, value_size, value_size);
    record_seal(record, record_payload_checksum(record), 7, RECORD_LAST_OF_BATCH);
    return record;
}

static struct record *new_record(uint16_t key_size, const struct record_meta *meta,
                                 uint64_t value_size)
{
    return new_record_of(RECORD_PUT, key_size, meta, value_size);
}

/* What a reader does with bytes that it doesn't know. */
static enum err check(const void *at, uint64_t available)
{
    uint64_t size = 0;
    enum err err = record_check_shape(at, available, &size);
    if (err) {
        return err;
    }
    assert_in_range(size, sizeof(struct record), available);
    return record_verify(at);
}

static void assert_texts_equal(struct bytes a, struct bytes b)
{
    assert_true(bytes_equal(a, b));
}

static void assert_round_trip(uint16_t key_size, const struct record_meta *meta,
                              uint64_t value_size)
{
    struct record *record = new_record(key_size, meta, value_size);
    uint64_t size = record_size(record);
    uint64_t shape_size = 0;
    uint8_t key[RECORD_KEY_MAX_BYTES];
    uint8_t *expected = malloc(value_size + 1);
    struct record_meta out;

    assert_int_equal(size % 8, 0);
    assert_ok(record_check_shape(record, size, &shape_size));
    assert_int_equal(shape_size, size);
    assert_ok(record_verify(record));
    assert_int_equal(record->kind, RECORD_PUT);
    assert_int_equal(record->flags, RECORD_LAST_OF_BATCH);
    assert_int_equal(record->seq, 7);

    fill(key, key_size, key_size);
    assert_texts_equal(record_key(record), bytes_of(key, key_size));
    assert_non_null(expected);
    fill(expected, value_size, value_size);
    assert_int_equal(record_value_offset(record) % 8, 0);
    assert_texts_equal(record_value(record), bytes_of(expected, value_size));

    record_meta_get(record, &out);
    if (meta) {
        assert_int_equal(out.modified_ms, meta->modified_ms);
        assert_texts_equal(out.content_type, meta->content_type);
        assert_texts_equal(out.content_encoding, meta->content_encoding);
        assert_texts_equal(out.cache_control, meta->cache_control);
    } else {
        assert_int_equal(out.modified_ms, 0);
        assert_int_equal(out.content_type.size, 0);
    }
    free(expected);
    free(record);
}

static void what_goes_in_comes_out_around_every_boundary(void **state)
{
    static const uint16_t keys[] = {1, 2, 7, 8, 9, 1023, 1024};
    static const uint64_t values[] = {0,     1,     7,      8,      9,      65535,
                                      65536, 65537, 131071, 131072, 131073, 1024 * KIB + 3};
    (void)state;
    for (size_t k = 0; k < COUNT_OF(keys); k++) {
        for (size_t v = 0; v < COUNT_OF(values); v++) {
            assert_round_trip(keys[k], NULL, values[v]);
            assert_round_trip(keys[k], &some_meta, values[v]);
        }
    }
}

static void metadata_comes_out_with_any_of_its_parts_absent(void **state)
{
    char longest[256];
    (void)state;
    memset(longest, 'x', sizeof longest);
    for (unsigned present = 0; present < 16; present++) {
        struct record_meta meta = {.modified_ms = (present & 1) ? UINT64_MAX : 0};
        if (present & 2) {
            meta.content_type = bytes_of(longest, sizeof longest);
        }
        if (present & 4) {
            meta.content_encoding = bytes_of("x", 1);
        }
        if (present & 8) {
            meta.cache_control = bytes_of(longest, sizeof longest);
        }
        assert_round_trip(3, &meta, 5);
    }
}

static void a_delete_marker_has_key_and_metadata_only(void **state)
{
    struct record *record = new_record_of(RECORD_DELETE, 10, &some_meta, 0);
    (void)state;
    assert_ok(check(record, record_size(record)));
    assert_int_equal(record->kind, RECORD_DELETE);
    assert_int_equal(record_value(record).size, 0);
    free(record);
}

/* Bytes worked out by hand from FORMAT.md: the layout can't drift unnoticed. */
static void the_bytes_are_those_of_the_format(void **state)
{
    static const uint8_t expected[] = {
        1,   1,   0,   0,                    /* kind, flags, hints, zero */
        3,   0,   7,   0, 0,   0,   0,   0,  /* K, M, zero */
        2,   0,   0,   0, 0,   0,   0,   0,  /* V */
        7,   0,   0,   0, 0,   0,   0,   0,  /* sequence number */
        0,   0,   0,   0, 0,   0,   0,   0,  /* expiry */
        'k', 'e', 'y',                       /* key */
        2,   0,   3,   0, 'a', '/', 'b',     /* metadata: content type */
        0,   0,   0,   0, 0,   0,            /* to a multiple of 8 */
        'v', 'w', 0,   0, 0,   0,   0,   0}; /* value, to a multiple of 8 */
    struct record_meta meta = {.content_type = {"a/b", 3}};
    _Alignas(8) uint8_t bytes[4 + sizeof expected];
    struct record *record = (struct record *)bytes;

    (void)state;
    assert_int_equal(record_size_for(3, record_meta_size(&meta), 2), sizeof bytes);
    memcpy(record_init(record, RECORD_PUT, bytes_of("key", 3), &meta, 2), "vw", 2);
    record_seal(record, record_payload_checksum(record), 7, RECORD_LAST_OF_BATCH);
    assert_memory_equal(bytes + 4, expected, sizeof expected);
    /* Payload first, then the header without the checksum. */
    uint32_t crc = crc32c(crc32c(0, bytes + 40, sizeof bytes - 40), bytes + 4, 36);
    assert_int_equal(load_u32(bytes), crc);
}

static void a_long_value_has_a_checksum_per_chunk_before_it(void **state)
{
    struct record *record = new_record(8, NULL, 131073);
    const uint8_t *bytes = (const uint8_t *)record;

    (void)state;
    assert_int_equal(record_size_for(8, 0, 65536), 40 + 8 + 65536); /* not yet long */
    assert_int_equal(record_value_offset(record), 40 + 8 + 16);
    assert_int_equal(record_size(record), 64 + 131080);
    assert_int_equal(load_u32(bytes + 48), crc32c(0, bytes + 64, 65536));
    assert_int_equal(load_u32(bytes + 52), crc32c(0, bytes + 64 + 65536, 65536));
    assert_int_equal(load_u32(bytes + 56), crc32c(0, bytes + 64 + 131072, 8));
    assert_int_equal(load_u32(bytes + 60), 0);
    uint32_t crc = crc32c(crc32c(0, bytes + 40, 24), bytes + 4, 36);
    assert_int_equal(load_u32(bytes), crc);
    free(record);
}

static void assert_every_flip_is_detected(struct record *record)
{
    uint64_t size = record_size(record);
    uint8_t *bytes = (uint8_t *)record;

    assert_ok(check(record, size));
    for (uint64_t bit = 0; bit < size * 8; bit++) {
        uint8_t mask = (uint8_t)(1u << (bit % 8));
        bytes[bit / 8] ^= mask;
        if (check(record, size) == ERR_OK) {
            fail_msg("bit %u of byte %llu", (unsigned)(bit % 8), (unsigned long long)(bit / 8));
        }
        bytes[bit / 8] ^= mask;
    }
    assert_ok(check(record, size));
    free(record);
}

static void every_flipped_bit_of_a_short_value_is_detected(void **state)
{
    (void)state;
    assert_every_flip_is_detected(new_record(1, NULL, 0));
    assert_every_flip_is_detected(new_record(11, &some_meta, 13));
    assert_every_flip_is_detected(new_record_of(RECORD_DELETE, 5, &some_meta, 0));
}

static void every_flipped_bit_of_a_long_value_is_detected(void **state)
{
    (void)state;
    assert_every_flip_is_detected(new_record(11, &some_meta, 65537));
}

static void bytes_that_end_early_are_not_a_record(void **state)
{
    struct record *record = new_record(11, &some_meta, 13);
    uint64_t size = record_size(record);
    uint64_t untouched = 12345;

    (void)state;
    for (uint64_t available = 0; available < size; available++) {
        /* Exactly that many bytes, so that a sanitizer sees a read beyond them. */
        void *copy = malloc(available + 1);
        assert_non_null(copy);
        memcpy(copy, record, available);
        copy = realloc(copy, available > 0 ? available : 1);
        assert_err(ERR_CORRUPT, record_check_shape(copy, available, &untouched));
        assert_int_equal(untouched, 12345);
        free(copy);
    }
    free(record);
}

/* Sets a field of a sound record, seals it anew so that the checksum agrees, and checks it. */
#define CHECK_WITH(record, field, set_to)                   \
    ({                                                      \
        struct record *copy_ = malloc(record_size(record)); \
        uint64_t size_ = record_size(record);               \
        assert_non_null(copy_);                             \
        memcpy(copy_, (record), size_);                     \
        copy_->field = (set_to);                            \
        reseal(copy_, size_);                               \
        enum err err_ = check(copy_, size_);                \
        free(copy_);                                        \
        err_;                                               \
    })

/* What record_seal() does, without its care; for records with short values. */
static void reseal(struct record *record, uint64_t size)
{
    uint8_t *bytes = (uint8_t *)record;
    record->checksum = crc32c(crc32c(0, bytes + 40, size - 40), bytes + 4, 36);
}

static void later_kinds_and_flags_are_of_another_format(void **state)
{
    struct record *record = new_record(11, &some_meta, 13);
    (void)state;
    for (unsigned kind = 3; kind < 256; kind++) {
        assert_err(ERR_FORMAT, CHECK_WITH(record, kind, (uint8_t)kind));
    }
    for (unsigned flags = 2; flags < 256; flags++) {
        assert_err(ERR_FORMAT, CHECK_WITH(record, flags, (uint8_t)flags));
    }
    free(record);
}

static void a_hint_of_a_later_version_is_ignored(void **state)
{
    struct record *record = new_record(11, &some_meta, 13);
    (void)state;
    assert_ok(CHECK_WITH(record, hints, 0xFF));
    free(record);
}

static void fields_out_of_range_are_damage_even_under_a_good_checksum(void **state)
{
    struct record *record = new_record(11, &some_meta, 13);
    (void)state;
    assert_ok(CHECK_WITH(record, flags, 0));
    assert_err(ERR_CORRUPT, CHECK_WITH(record, kind, 0));
    assert_err(ERR_CORRUPT, CHECK_WITH(record, kind, RECORD_DELETE)); /* with a value */
    assert_err(ERR_CORRUPT, CHECK_WITH(record, reserved0, 1));
    assert_err(ERR_CORRUPT, CHECK_WITH(record, reserved1, 1));
    assert_err(ERR_CORRUPT, CHECK_WITH(record, expiry_ms, 1));
    assert_err(ERR_CORRUPT, CHECK_WITH(record, seq, 0));
    assert_ok(CHECK_WITH(record, seq, RECORD_SEQ_MAX));
    assert_err(ERR_CORRUPT, CHECK_WITH(record, seq, RECORD_SEQ_MAX + 1));
    assert_err(ERR_CORRUPT, CHECK_WITH(record, key_size, 0));
    assert_err(ERR_CORRUPT, CHECK_WITH(record, key_size, 1025));
    assert_err(ERR_CORRUPT, CHECK_WITH(record, key_size, UINT16_MAX));
    free(record);
}

/* Sizes that would wrap around if they were added up carelessly. Only the header is there. */
static void sizes_of_hostile_headers_dont_overflow(void **state)
{
    static const uint64_t values[] = {(UINT64_C(1) << 32) + 1, UINT64_C(1) << 62, INT64_MAX,
                                      UINT64_MAX - 2000,       UINT64_MAX - 7,    UINT64_MAX};
    struct record header = {
        .kind = RECORD_PUT, .key_size = 1024, .meta_size = UINT16_MAX, .seq = 1};
    uint64_t size = 0;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        header.value_size = values[i];
        assert_err(ERR_CORRUPT, record_check_shape(&header, sizeof header, &size));
        assert_err(ERR_CORRUPT, record_check_shape(&header, UINT64_MAX, &size));
    }
    header.value_size = RECORD_VALUE_MAX_BYTES;
    assert_err(ERR_CORRUPT, record_check_shape(&header, sizeof header, &size));
    assert_ok(record_check_shape(&header, UINT64_MAX, &size));
    assert_int_equal(size,
                     align8(40 + 1024 + 65535) + UINT64_C(4) * 65536 + RECORD_VALUE_MAX_BYTES);
}

static void padding_that_is_not_zero_is_damage_even_under_a_good_checksum(void **state)
{
    struct record *record = new_record(11, NULL, 13); /* 40 + 11 + 5 zeros, 13 + 3 zeros */
    uint8_t *bytes = (uint8_t *)record;
    uint64_t size = record_size(record);

    (void)state;
    assert_int_equal(size, 40 + 16 + 16);
    for (uint64_t at = 0; at < size; at++) {
        if ((at >= 51 && at < 56) || at >= 69) {
            bytes[at] = 1;
            reseal(record, size);
            assert_err(ERR_CORRUPT, check(record, size));
            bytes[at] = 0;
        }
    }
    reseal(record, size);
    assert_ok(check(record, size));
    free(record);
}

static void padding_of_a_long_value_must_be_zero_too(void **state)
{
    struct record *record = new_record(8, NULL, 131073);
    uint8_t *bytes = (uint8_t *)record;
    uint64_t size = record_size(record);

    (void)state;
    /* Behind the three chunk checksums. */
    bytes[60] = 1;
    record->checksum = crc32c(crc32c(0, bytes + 40, 24), bytes + 4, 36);
    assert_err(ERR_CORRUPT, check(record, size));
    bytes[60] = 0;
    /* Behind the value. */
    bytes[size - 1] = 1;
    record_seal(record, record_payload_checksum(record), 7, 0);
    assert_err(ERR_CORRUPT, check(record, size));
    bytes[size - 1] = 0;
    record_seal(record, record_payload_checksum(record), 7, 0);
    assert_ok(check(record, size));
    free(record);
}

/* A record with a key of 8 bytes, these bytes of metadata and no value. */
static enum err check_with_meta(const void *meta, uint16_t meta_size)
{
    uint64_t size = record_size_for(8, meta_size, 0);
    struct record *record = calloc(1, size);

    assert_non_null(record);
    record->kind = RECORD_PUT;
    record->key_size = 8;
    record->meta_size = meta_size;
    record->seq = 1;
    memset(record->payload, 'k', 8);
    memcpy(record->payload + 8, meta, meta_size);
    reseal(record, size);
    enum err err = check(record, size);
    if (err == ERR_OK) {
        struct record_meta out;
        record_meta_get(record, &out); /* reads nothing beyond it, says a sanitizer */
    }
    free(record);
    return err;
}

#define CHECK_WITH_META(...)                        \
    check_with_meta((const uint8_t[]){__VA_ARGS__}, \
                    (uint16_t)sizeof((const uint8_t[]){__VA_ARGS__}))

static void metadata_must_be_a_run_of_whole_entries_in_order(void **state)
{
    (void)state;
    assert_ok(CHECK_WITH_META(2, 0, 1, 0, 'a'));
    assert_ok(CHECK_WITH_META(2, 0, 0, 0));
    assert_ok(CHECK_WITH_META(2, 0, 1, 0, 'a', 3, 0, 1, 0, 'b'));
    assert_ok(CHECK_WITH_META(1, 0, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8));

    assert_err(ERR_CORRUPT, CHECK_WITH_META(2));
    assert_err(ERR_CORRUPT, CHECK_WITH_META(2, 0, 0));
    assert_err(ERR_CORRUPT, CHECK_WITH_META(2, 0, 2, 0, 'a'));
    assert_err(ERR_CORRUPT, CHECK_WITH_META(2, 0, 255, 255, 'a'));
    assert_err(ERR_CORRUPT, CHECK_WITH_META(2, 0, 1, 0, 'a', 0));
    assert_err(ERR_CORRUPT, CHECK_WITH_META(2, 1, 1, 0, 'a'));
    assert_err(ERR_CORRUPT, CHECK_WITH_META(0, 0, 1, 0, 'a'));
    assert_err(ERR_CORRUPT, CHECK_WITH_META(2, 0, 1, 0, 'a', 2, 0, 1, 0, 'b'));
    assert_err(ERR_CORRUPT, CHECK_WITH_META(3, 0, 1, 0, 'a', 2, 0, 1, 0, 'b'));
    assert_err(ERR_CORRUPT, CHECK_WITH_META(1, 0, 7, 0, 1, 2, 3, 4, 5, 6, 7));
    assert_err(ERR_CORRUPT, CHECK_WITH_META(1, 0, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
}

static void texts_in_metadata_have_a_limit_and_unknown_tags_none(void **state)
{
    uint8_t meta[4 + 1000] = {2, 0, 0, 1};
    (void)state;
    assert_ok(check_with_meta(meta, 4 + 256));
    store_u16(meta + 2, 257);
    assert_err(ERR_CORRUPT, check_with_meta(meta, 4 + 257));
    meta[0] = 5;
    assert_ok(check_with_meta(meta, 4 + 257));
    store_u16(meta + 2, 1000);
    assert_ok(check_with_meta(meta, 4 + 1000));
}

static void unknown_tags_are_passed_over(void **state)
{
    static const uint8_t meta[] = {2, 0, 1, 0, 'a', 4, 0, 1, 0, 'c', 200, 0, 2, 0, 'x', 'y'};
    _Alignas(8) uint8_t bytes[40 + 8 + 16] = {0};
    struct record *record = (struct record *)bytes;
    struct record_meta out;

    (void)state;
    record->key_size = 8;
    record->meta_size = sizeof meta;
    memcpy(record->payload + 8, meta, sizeof meta);
    record_meta_get(record, &out);
    assert_texts_equal(out.content_type, bytes_of("a", 1));
    assert_texts_equal(out.content_encoding, bytes_of(NULL, 0));
    assert_texts_equal(out.cache_control, bytes_of("c", 1));
}

/* Damage in one chunk is seen by whoever asks for any byte of it, and by nobody else. */
static void a_part_of_a_long_value_is_verified_by_its_chunks_alone(void **state)
{
    struct record *record = new_record(8, NULL, 4 * RECORD_CHUNK_BYTES + 5);
    uint8_t *value = (uint8_t *)record + record_value_offset(record);
    const uint64_t begin = 2 * RECORD_CHUNK_BYTES;
    const uint64_t end = 3 * RECORD_CHUNK_BYTES;

    (void)state;
    value[begin + 1000] ^= 1;
    assert_err(ERR_CORRUPT, record_verify(record));
    assert_ok(record_verify_head(record));
    assert_ok(record_verify_value(record, 0, begin));
    assert_err(ERR_CORRUPT, record_verify_value(record, 0, begin + 1));
    assert_err(ERR_CORRUPT, record_verify_value(record, begin, 1));
    assert_err(ERR_CORRUPT, record_verify_value(record, end - 1, 1));
    assert_ok(record_verify_value(record, end - 1, 0));
    assert_ok(record_verify_value(record, end, RECORD_CHUNK_BYTES + 5));
    assert_ok(record_verify_value(record, record->value_size, 0));
    free(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out_around_every_boundary),
        cmocka_unit_test(metadata_comes_out_with_any_of_its_parts_absent),
        cmocka_unit_test(a_delete_marker_has_key_and_metadata_only),
        cmocka_unit_test(the_bytes_are_those_of_the_format),
        cmocka_unit_test(a_long_value_has_a_checksum_per_chunk_before_it),
        cmocka_unit_test(every_flipped_bit_of_a_short_value_is_detected),
        cmocka_unit_test(every_flipped_bit_of_a_long_value_is_detected),
        cmocka_unit_test(bytes_that_end_early_are_not_a_record),
        cmocka_unit_test(later_kinds_and_flags_are_of_another_format),
        cmocka_unit_test(a_hint_of_a_later_version_is_ignored),
        cmocka_unit_test(fields_out_of_range_are_damage_even_under_a_good_checksum),
        cmocka_unit_test(sizes_of_hostile_headers_dont_overflow),
        cmocka_unit_test(padding_that_is_not_zero_is_damage_even_under_a_good_checksum),
        cmocka_unit_test(padding_of_a_long_value_must_be_zero_too),
        cmocka_unit_test(metadata_must_be_a_run_of_whole_entries_in_order),
        cmocka_unit_test(texts_in_metadata_have_a_limit_and_unknown_tags_none),
        cmocka_unit_test(unknown_tags_are_passed_over),
        cmocka_unit_test(a_part_of_a_long_value_is_verified_by_its_chunks_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
