/* Problems: a table without holes, and bodies as RFC 9457 wants them. */
#include "api/problem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>

static void every_problem_is_complete_and_has_its_own_type(void **state)
{
    (void)state;
    for (int i = PROBLEM_NONE + 1; i < PROBLEM_COUNT; i++) {
        const struct problem_kind *kind = problem_kind((enum problem)i);

        assert_int_equal(strncmp(kind->type, "/problems/", 10), 0);
        assert_int_equal(strspn(kind->type + 10, "abcdefghijklmnopqrstuvwxyz-"),
                         strlen(kind->type) - 10);
        assert_true(kind->status >= 400 && kind->status < 600);
        assert_true(strlen(kind->title) > 0);
        assert_int_equal(kind->detail[strlen(kind->detail) - 1], '.');
        for (int j = PROBLEM_NONE + 1; j < i; j++) {
            assert_string_not_equal(kind->type, problem_kind((enum problem)j)->type);
        }
    }
}

static void retry_after_only_where_a_second_try_is_safe_and_useful(void **state)
{
    (void)state;
    for (int i = PROBLEM_NONE + 1; i < PROBLEM_COUNT; i++) {
        const struct problem_kind *kind = problem_kind((enum problem)i);

        if (kind->status != 503) {
            assert_int_equal(kind->retry_after_s, 0);
        }
    }
    assert_true(problem_kind(PROBLEM_BUSY)->retry_after_s > 0);
    assert_true(problem_kind(PROBLEM_RECOVERING)->retry_after_s > 0);
    assert_true(problem_kind(PROBLEM_DRAINING)->retry_after_s > 0);
    assert_int_equal(problem_kind(PROBLEM_READ_ONLY)->retry_after_s, 0);
    assert_int_equal(problem_kind(PROBLEM_OUTCOME_UNKNOWN)->retry_after_s, 0);
}

/* Regression: a refused TTL field was an "Unknown parameter". */
static void a_title_fits_query_parameters_and_header_fields(void **state)
{
    (void)state;
    assert_string_equal(problem_kind(PROBLEM_UNKNOWN_PARAMETER)->title,
                        "Unsupported parameter or field");
}

static json_t *body(enum problem problem, const struct problem_occurrence *occurrence)
{
    size_t len = 0;
    char *text = problem_body(problem, occurrence, &len);
    json_t *object;

    assert_non_null(text);
    assert_int_equal(strlen(text), len);
    assert_int_equal(text[len - 1], '\n');
    object = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(object);
    free(text);
    return object;
}

static void a_body_has_the_members_that_are_known(void **state)
{
    json_t *object =
        body(PROBLEM_PRECONDITION_FAILED,
             &(struct problem_occurrence){
                 .request_id = "r-1", .current_etag = "\"a-1\"", .detail = "Look \"again\"."});

    (void)state;
    assert_string_equal(json_string_value(json_object_get(object, "type")),
                        "/problems/precondition-failed");
    assert_int_equal(json_integer_value(json_object_get(object, "status")), 412);
    assert_string_equal(json_string_value(json_object_get(object, "title")), "Precondition failed");
    assert_string_equal(json_string_value(json_object_get(object, "detail")), "Look \"again\".");
    assert_string_equal(json_string_value(json_object_get(object, "current_etag")), "\"a-1\"");
    assert_string_equal(json_string_value(json_object_get(object, "request_id")), "r-1");
    assert_int_equal(json_object_size(object), 6);
    json_decref(object);

    object = body(PROBLEM_VALUE_TOO_LARGE,
                  &(struct problem_occurrence){.has_limit = true, .limit = UINT64_C(1) << 40});
    assert_true(json_integer_value(json_object_get(object, "limit")) == INT64_C(1) << 40);
    assert_string_equal(json_string_value(json_object_get(object, "detail")),
                        problem_kind(PROBLEM_VALUE_TOO_LARGE)->detail);
    assert_int_equal(json_object_size(object), 5);
    json_decref(object);

    object = body(PROBLEM_UNKNOWN_PARAMETER, &(struct problem_occurrence){.parameter = "ttl"});
    assert_string_equal(json_string_value(json_object_get(object, "parameter")), "ttl");
    json_decref(object);
}

static void every_error_of_the_store_has_an_answer(void **state)
{
#define CODE(code, text) code,
    static const enum err all[] = {ERR_TABLE(CODE)};
#undef CODE

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        assert_int_equal(problem_from_err(all[i]) == PROBLEM_NONE, all[i] == ERR_OK);
    }
    assert_int_equal(problem_from_err(ERR_OUTCOME_UNKNOWN), PROBLEM_OUTCOME_UNKNOWN);
    assert_int_equal(problem_kind(problem_from_err(ERR_OUTCOME_UNKNOWN))->status, 500);
    assert_int_equal(problem_kind(problem_from_err(ERR_READ_ONLY))->status, 503);
    assert_int_equal(problem_kind(problem_from_err(ERR_NO_SPACE))->status, 507);
    assert_int_equal(problem_kind(problem_from_err(ERR_NO_MEMORY))->status, 503);
    assert_int_equal(problem_kind(problem_from_err(ERR_BUSY))->status, 503);
    assert_int_equal(problem_kind(problem_from_err(ERR_CORRUPT))->status, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_problem_is_complete_and_has_its_own_type),
        cmocka_unit_test(retry_after_only_where_a_second_try_is_safe_and_useful),
        cmocka_unit_test(a_title_fits_query_parameters_and_header_fields),
        cmocka_unit_test(a_body_has_the_members_that_are_known),
        cmocka_unit_test(every_error_of_the_store_has_an_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
