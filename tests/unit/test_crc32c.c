/* CRC-32C: the published vectors, and that checksums continue. */
#include "store/base/crc32c.h"

#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/random.h"

/* RFC 3720 B.4: 32 zeros, 32 ones, ascending, descending, a SCSI read command. */
static void gives_the_values_of_rfc_3720(void **state)
{
    static const unsigned char command[48] = {
        [0] = 0x01,  [1] = 0xc0,  [16] = 0x14, [22] = 0x04,
        [27] = 0x14, [31] = 0x18, [32] = 0x28, [40] = 0x02,
    };
    unsigned char data[32];

    (void)state;
    memset(data, 0, sizeof data);
    assert_int_equal(crc32c(0, data, sizeof data), 0x8a9136aa);
    memset(data, 0xff, sizeof data);
    assert_int_equal(crc32c(0, data, sizeof data), 0x62a8ab43);
    for (unsigned i = 0; i < sizeof data; i++) {
        data[i] = (unsigned char)i;
    }
    assert_int_equal(crc32c(0, data, sizeof data), 0x46dd794e);
    for (unsigned i = 0; i < sizeof data; i++) {
        data[i] = (unsigned char)(31 - i);
    }
    assert_int_equal(crc32c(0, data, sizeof data), 0x113fdb5c);
    assert_int_equal(crc32c(0, command, sizeof command), 0xd9963a56);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
}

static void of_nothing_is_zero_and_changes_nothing(void **state)
{
    (void)state;
    assert_int_equal(crc32c(0, NULL, 0), 0);
    assert_int_equal(crc32c(0, "x", 0), 0);
    assert_int_equal(crc32c(0xe3069283, NULL, 0), 0xe3069283);
}

/* One bit at a time, by the reflected polynomial of RFC 3720. */
static uint32_t by_hand(const unsigned char *data, size_t size)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc & 1) != 0 ? (crc >> 1) ^ UINT32_C(0x82f63b78) : crc >> 1;
        }
    }
    return ~crc;
}

static void agrees_with_the_polynomial_at_every_size_and_alignment(void **state)
{
    unsigned char data[600];
    struct prng prng;

    (void)state;
    prng_init(&prng, test_seed());
    prng_fill(&prng, data, sizeof data);
    for (size_t begin = 0; begin < 17; begin++) {
        for (size_t size = 0; begin + size <= sizeof data; size++) {
            assert_int_equal(crc32c(0, data + begin, size), by_hand(data + begin, size));
        }
    }
}

static void continues_where_it_was_cut(void **state)
{
    unsigned char data[300];
    struct prng prng;
    uint32_t whole;

    (void)state;
    prng_init(&prng, test_seed());
    prng_fill(&prng, data, sizeof data);
    whole = crc32c(0, data, sizeof data);
    for (size_t cut = 0; cut <= sizeof data; cut++) {
        uint32_t first = crc32c(0, data, cut);
        assert_int_equal(crc32c(first, data + cut, sizeof data - cut), whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_values_of_rfc_3720),
        cmocka_unit_test(of_nothing_is_zero_and_changes_nothing),
        cmocka_unit_test(agrees_with_the_polynomial_at_every_size_and_alignment),
        cmocka_unit_test(continues_where_it_was_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
