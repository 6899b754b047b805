/* Canonical base64url: each run of bytes has one text. */
#include "api/base64url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void agrees_with_rfc_4648(void **state)
{
    static const char *const pairs[][2] = {
        {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
        {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xFB\xFF", "-_8"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        size_t len = strlen(pairs[i][0]);
        char text[16] = "";
        uint8_t back[16];
        size_t back_len = 99;

        assert_int_equal(base64url_text_len(len), strlen(pairs[i][1]));
        base64url_encode((const uint8_t *)pairs[i][0], len, text);
        assert_string_equal(text, pairs[i][1]);
        assert_true(base64url_decode(text, strlen(text), back, &back_len));
        assert_int_equal(back_len, len);
        assert_memory_equal(back, pairs[i][0], len);
    }
}

static void gives_back_any_bytes(void **state)
{
    const char *seed_text = getenv("VARVE_TEST_SEED");
    unsigned seed = seed_text == NULL ? 1 : (unsigned)strtoul(seed_text, NULL, 10);

    (void)state;
    print_message("seed %u\n", seed);
    for (int round = 0; round < 2000; round++) {
        uint8_t bytes[64];
        uint8_t back[64];
        char text[96];
        size_t len = (size_t)rand_r(&seed) % sizeof(bytes);
        size_t back_len;

        for (size_t i = 0; i < len; i++) {
            bytes[i] = (uint8_t)rand_r(&seed);
        }
        base64url_encode(bytes, len, text);
        assert_true(base64url_decode(text, base64url_text_len(len), back, &back_len));
        assert_int_equal(back_len, len);
        assert_memory_equal(back, bytes, len);
    }
}

static void decodes_in_place(void **state)
{
    char text[] = "Zm9vYmFy";
    size_t len;

    (void)state;
    assert_true(base64url_decode(text, strlen(text), (uint8_t *)text, &len));
    assert_int_equal(len, 6);
    assert_memory_equal(text, "foobar", 6);
}

static void refuses_what_is_not_canonical(void **state)
{
    static const char *const others[] = {
        "Z", "Zg==", "Zg=", "Zm8=", "Zh", "Zm9", "Zm9vYh", "+_8", "-/8", "Zm9v Yg", "Zm9vY", "Z\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        uint8_t out[16];
        size_t len;

        if (base64url_decode(others[i], strlen(others[i]), out, &len)) {
            fail_msg("took \"%s\"", others[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_rfc_4648),
        cmocka_unit_test(gives_back_any_bytes),
        cmocka_unit_test(decodes_in_place),
        cmocka_unit_test(refuses_what_is_not_canonical),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
