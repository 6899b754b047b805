/* Deadlines of connections, with a clock of our own. */
#include "service/deadline.h"

#include "tests/support/check.h"

static const struct deadline_limits limits = {
    .header_ms = 10000, .window_ms = 30000, .window_bytes = 30 * 1024};

/* Looks once a second from `from_ms` on, with `bytes_per_s` moved between looks, and returns the
 * time of the look that says to cut, or 0 if none did before `to_ms`. */
static uint64_t look(struct deadline *deadline, uint32_t stamp, uint64_t from_ms, uint64_t to_ms,
                     uint64_t bytes, uint64_t bytes_per_s)
{
    for (uint64_t now = from_ms; now < to_ms; now += 1000) {
        if (deadline_check(deadline, &limits, stamp, now, bytes, bytes)) {
            return now;
        }
        bytes += bytes_per_s;
    }
    return 0;
}

static void leaves_a_silent_new_connection_alone(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    assert_int_equal(look(&deadline, deadline_stamp(PHASE_IDLE, 0), 5000, 200000, 0, 0), 0);
}

static void cuts_a_request_line_that_trickles_in(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    uint32_t idle = deadline_stamp(PHASE_IDLE, 0);
    assert_int_equal(look(&deadline, idle, 5000, 200000, 1, 1), 15000);
}

static void counts_the_header_section_from_its_first_byte(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    assert_int_equal(look(&deadline, deadline_stamp(PHASE_IDLE, 3), 1000, 8000, 500, 0), 0);
    assert_int_equal(look(&deadline, deadline_stamp(PHASE_IDLE, 3), 8000, 12000, 501, 1), 0);
    assert_int_equal(look(&deadline, deadline_stamp(PHASE_HEADERS, 3), 12000, 60000, 600, 1),
                     18000);
}

static void starts_anew_with_each_request(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    for (uint32_t request = 0; request < 100; request++) {
        uint32_t headers = deadline_stamp(PHASE_HEADERS, request);
        uint64_t now = 7000 * (request + 1);
        assert_false(deadline_check(&deadline, &limits, headers, now, request * 100, 0));
        assert_false(deadline_check(&deadline, &limits, headers, now + 6000, request * 100, 0));
    }
}

static void gives_an_idle_connection_no_blame_for_the_last_request(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    assert_int_equal(look(&deadline, deadline_stamp(PHASE_HEADERS, 0), 0, 3000, 10, 10), 0);
    assert_int_equal(look(&deadline, deadline_stamp(PHASE_IDLE, 1), 3000, 100000, 4000, 0), 0);
}

static void cuts_bodies_and_answers_below_the_rate(void **state)
{
    (void)state;
    const enum deadline_phase phases[] = {PHASE_BODY, PHASE_ANSWER};
    for (size_t i = 0; i < 2; i++) {
        uint32_t stamp = deadline_stamp(phases[i], 7);
        struct deadline slow = {0};
        assert_int_equal(look(&slow, stamp, 1000, 900000, 0, 1023), 31000);
        struct deadline enough = {0};
        assert_int_equal(look(&enough, stamp, 1000, 900000, 0, 1024), 0);
    }
}

static void judges_any_window_not_the_average(void **state)
{
    (void)state;
    uint32_t stamp = deadline_stamp(PHASE_ANSWER, 1);
    struct deadline deadline = {0};
    assert_int_equal(look(&deadline, stamp, 0, 100000, 0, 1000000), 0);
    uint64_t cut = look(&deadline, stamp, 100000, 900000, 100000000, 0);
    assert_in_range(cut, 130000, 136000);
}

static void does_not_count_what_a_client_sends_while_it_should_read(void **state)
{
    (void)state;
    uint32_t stamp = deadline_stamp(PHASE_ANSWER, 1);
    struct deadline deadline = {0};
    bool cut = false;
    for (uint64_t now = 0; now <= 30000; now += 1000) {
        cut = deadline_check(&deadline, &limits, stamp, now, now * 100, 0);
    }
    assert_true(cut);
}

static void waits_for_the_store_without_end(void **state)
{
    (void)state;
    struct deadline deadline = {0};
    assert_int_equal(look(&deadline, deadline_stamp(PHASE_BODY, 0), 0, 9000, 0, 0), 0);
    assert_int_equal(look(&deadline, deadline_stamp(PHASE_WAITING, 0), 9000, 900000, 0, 0), 0);
    assert_int_equal(look(&deadline, deadline_stamp(PHASE_ANSWER, 0), 900000, 929000, 0, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_a_silent_new_connection_alone),
        cmocka_unit_test(cuts_a_request_line_that_trickles_in),
        cmocka_unit_test(counts_the_header_section_from_its_first_byte),
        cmocka_unit_test(starts_anew_with_each_request),
        cmocka_unit_test(gives_an_idle_connection_no_blame_for_the_last_request),
        cmocka_unit_test(cuts_bodies_and_answers_below_the_rate),
        cmocka_unit_test(judges_any_window_not_the_average),
        cmocka_unit_test(does_not_count_what_a_client_sends_while_it_should_read),
        cmocka_unit_test(waits_for_the_store_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
