/* What the benchmarks rest on: their order of keys, and that no wrong value gets past them. */
#include "tests/bench/items.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/check.h"

enum { VALUE_BYTES = 100 };

static void shuffled_numbers_are_a_permutation(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 1000; n++) {
        bool *seen = calloc(n, sizeof *seen);
        assert_non_null(seen);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t number = item_shuffled(i, n);
            assert_true(number < n && !seen[number]);
            seen[number] = true;
        }
        free(seen);
    }
}

static void keys_tell_their_number_and_sort_like_it(void **state)
{
    char a[ITEM_KEY_BYTES], b[ITEM_KEY_BYTES];
    (void)state;
    for (uint64_t number = 0; number < UINT64_C(1) << 50; number = 3 * number + 1) {
        struct bytes key = item_key(number, a);
        assert_int_equal(item_number(key), number);
        assert_true(bytes_compare(key, item_key(number + 1, b)) < 0);
    }
}

/* Whether item_check() ends the process; what it says is dropped. */
static bool is_refused(uint64_t number, struct bytes value)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(nowhere, STDERR_FILENO);
        (void)item_check(number, value, VALUE_BYTES);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

static void a_wrong_value_ends_the_program(void **state)
{
    uint8_t value[VALUE_BYTES];
    (void)state;
    struct bytes right = item_value(7, 3, value, sizeof value);
    assert_int_equal(item_check(7, right, VALUE_BYTES), 3);
    assert_true(is_refused(8, right));
    assert_true(is_refused(7, bytes_of(value, VALUE_BYTES - 1)));
    for (size_t i = 0; i < VALUE_BYTES; i++) {
        value[i] ^= 1;
        assert_true(is_refused(7, right));
        value[i] ^= 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shuffled_numbers_are_a_permutation),
        cmocka_unit_test(keys_tell_their_number_and_sort_like_it),
        cmocka_unit_test(a_wrong_value_ends_the_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
