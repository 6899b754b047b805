/* Preconditions: parsed once, decided in the order of RFC 9110. */
#include "api/precondition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The key's version in these tests, and another one. */
#define HERE  "\"00000000000000aa-5\""
#define OTHER "\"00000000000000aa-4\""

static const struct store_current here = {
    .exists = true, .version = {0xAA, 5}, .modified_ms = 784111777999};
static const struct store_current absent = {.exists = false, .modified_ms = 784111777999};

#define BEFORE "Sun, 06 Nov 1994 08:49:38 GMT"
#define SAME   "Sun, 06 Nov 1994 08:49:39 GMT"
#define AFTER  "Sun, 06 Nov 1994 08:49:40 GMT"

enum { NOW_S = 1795000000 };

struct fields {
    const char *if_match, *if_none_match, *modified_since, *unmodified_since;
};

static struct span text_span(const char *text)
{
    return span_of(text, strlen(text));
}

static enum problem parse(struct precondition *precondition, const struct fields *fields)
{
    enum problem problem = PROBLEM_NONE;

    precondition_init(precondition);
    if (fields->if_match != NULL) {
        problem = precondition_if_match(precondition, text_span(fields->if_match));
    }
    if (problem == PROBLEM_NONE && fields->if_none_match != NULL) {
        problem = precondition_if_none_match(precondition, text_span(fields->if_none_match));
    }
    if (fields->modified_since != NULL) {
        precondition_modified_since(precondition, text_span(fields->modified_since), NOW_S);
    }
    if (fields->unmodified_since != NULL) {
        precondition_unmodified_since(precondition, text_span(fields->unmodified_since), NOW_S);
    }
    return problem;
}

enum {
    READ = PRECONDITION_READ,
    WRITE = PRECONDITION_WRITE,
    EXISTING = PRECONDITION_WRITE_EXISTING
};
enum { GO = PRECONDITION_PROCEED, UNCHANGED = PRECONDITION_NOT_MODIFIED, NO = PRECONDITION_FAILED };

static void decides_as_rfc_9110_says(void **state)
{
    static const struct {
        struct fields fields;
        int method;
        const struct store_current *current;
        int verdict;
    } cases[] = {
        {{NULL, NULL, NULL, NULL}, READ, &here, GO},
        {{NULL, NULL, NULL, NULL}, WRITE, &absent, GO},

        /* If-Match: strong comparison, lists, "*" */
        {{.if_match = HERE}, READ, &here, GO},
        {{.if_match = HERE}, WRITE, &here, GO},
        {{.if_match = OTHER}, READ, &here, NO},
        {{.if_match = OTHER}, WRITE, &here, NO},
        {{.if_match = OTHER ", " HERE}, WRITE, &here, GO},
        {{.if_match = ",," OTHER " ,\t" HERE ","}, WRITE, &here, GO},
        {{.if_match = OTHER "," HERE}, WRITE, &here, GO},
        {{.if_match = "W/" HERE}, WRITE, &here, NO},
        {{.if_match = "W/" HERE ", " HERE}, WRITE, &here, GO},
        {{.if_match = "\"x\""}, WRITE, &here, NO},
        {{.if_match = "\"00000000000000ab-5\""}, WRITE, &here, NO},
        {{.if_match = "*"}, WRITE, &here, GO},
        {{.if_match = " * "}, WRITE, &here, GO},
        {{.if_match = "*"}, READ, &here, GO},
        {{.if_match = "*"}, WRITE, &absent, NO},
        {{.if_match = HERE}, WRITE, &absent, NO},

        /* If-None-Match: weak comparison; 304 for reads, 412 for writes */
        {{.if_none_match = HERE}, READ, &here, UNCHANGED},
        {{.if_none_match = "W/" HERE}, READ, &here, UNCHANGED},
        {{.if_none_match = HERE}, WRITE, &here, NO},
        {{.if_none_match = "W/" HERE}, WRITE, &here, NO},
        {{.if_none_match = OTHER}, READ, &here, GO},
        {{.if_none_match = OTHER ", W/" HERE}, READ, &here, UNCHANGED},
        {{.if_none_match = "\"x\", \"y\""}, READ, &here, GO},
        {{.if_none_match = "*"}, READ, &here, UNCHANGED},
        {{.if_none_match = "*"}, WRITE, &here, NO},
        {{.if_none_match = "*"}, WRITE, &absent, GO},
        {{.if_none_match = HERE}, WRITE, &absent, GO},

        /* the dates, by the second; If-Modified-Since only for reads */
        {{.modified_since = BEFORE}, READ, &here, GO},
        {{.modified_since = SAME}, READ, &here, UNCHANGED},
        {{.modified_since = AFTER}, READ, &here, UNCHANGED},
        {{.modified_since = SAME}, WRITE, &here, GO},
        {{.unmodified_since = BEFORE}, WRITE, &here, NO},
        {{.unmodified_since = BEFORE}, READ, &here, NO},
        {{.unmodified_since = SAME}, WRITE, &here, GO},
        {{.unmodified_since = AFTER}, WRITE, &here, GO},
        {{.unmodified_since = BEFORE}, WRITE, &absent, GO},

        /* an invalid date is as good as none */
        {{.modified_since = "yesterday"}, READ, &here, GO},
        {{.modified_since = ""}, READ, &here, GO},
        {{.unmodified_since = "0"}, WRITE, &here, GO},

        /* a tag field beats its date, whatever the date says */
        {{.if_match = HERE, .unmodified_since = BEFORE}, WRITE, &here, GO},
        {{.if_match = OTHER, .unmodified_since = AFTER}, WRITE, &here, NO},
        {{.if_none_match = OTHER, .modified_since = AFTER}, READ, &here, GO},
        {{.if_none_match = HERE, .modified_since = BEFORE}, READ, &here, UNCHANGED},

        /* the first pair comes before the second */
        {{.if_match = OTHER, .if_none_match = HERE}, READ, &here, NO},
        {{.if_match = HERE, .if_none_match = HERE}, READ, &here, UNCHANGED},
        {{.if_match = HERE, .modified_since = SAME}, READ, &here, UNCHANGED},
        {{.unmodified_since = BEFORE, .modified_since = SAME}, READ, &here, NO},
        {{.unmodified_since = SAME, .modified_since = SAME}, READ, &here, UNCHANGED},

        /* not decided where the plain answer is 404 */
        {{.if_match = HERE}, READ, &absent, GO},
        {{.if_match = "*"}, READ, &absent, GO},
        {{.if_none_match = "*"}, READ, &absent, GO},
        {{.if_match = "*"}, EXISTING, &absent, GO},
        {{.if_match = OTHER}, EXISTING, &here, NO},
        {{.if_none_match = "*"}, EXISTING, &here, NO},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct precondition precondition;
        int verdict;

        assert_int_equal(parse(&precondition, &cases[i].fields), PROBLEM_NONE);
        verdict = (int)precondition_decide(&precondition, (enum precondition_method)cases[i].method,
                                           cases[i].current);
        if (verdict != cases[i].verdict) {
            fail_msg("case %zu: %d instead of %d", i, verdict, cases[i].verdict);
        }
        precondition_release(&precondition);
    }
}

static void a_malformed_list_is_no_list(void **state)
{
    static const char *const others[] = {
        "",
        " ",
        ",",
        "x",
        "\"x",
        HERE " " HERE,
        HERE OTHER,
        "*, *",
        "**",
        "*,",
        HERE ", *",
        "*, " HERE,
        "w/" HERE,
        "W/ " HERE,
        HERE ";",
        "'x'",
        "\"a b\"",
        HERE ", x",
        "00000000000000aa-5",
        "\"x\"\"y\"",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct precondition precondition;

        if (parse(&precondition, &(struct fields){.if_match = others[i]}) !=
                PROBLEM_MALFORMED_PRECONDITION ||
            parse(&precondition, &(struct fields){.if_none_match = others[i]}) !=
                PROBLEM_MALFORMED_PRECONDITION) {
            fail_msg("took \"%s\"", others[i]);
        }
        precondition_release(&precondition);
    }
}

static void several_lines_make_one_list(void **state)
{
    struct precondition precondition;

    (void)state;
    precondition_init(&precondition);
    assert_int_equal(precondition_if_match(&precondition, text_span(OTHER)), PROBLEM_NONE);
    assert_int_equal(precondition_decide(&precondition, PRECONDITION_WRITE, &here), NO);
    assert_int_equal(precondition_if_match(&precondition, text_span(HERE)), PROBLEM_NONE);
    assert_int_equal(precondition_decide(&precondition, PRECONDITION_WRITE, &here), GO);
    assert_int_equal(precondition_if_match(&precondition, text_span("*")),
                     PROBLEM_MALFORMED_PRECONDITION);

    precondition_init(&precondition);
    assert_int_equal(precondition_if_match(&precondition, text_span("*")), PROBLEM_NONE);
    assert_int_equal(precondition_if_match(&precondition, text_span(HERE)),
                     PROBLEM_MALFORMED_PRECONDITION);

    precondition_init(&precondition);
    assert_int_equal(precondition_if_match(&precondition, text_span("*")), PROBLEM_NONE);
    assert_int_equal(precondition_if_match(&precondition, text_span("*")),
                     PROBLEM_MALFORMED_PRECONDITION);
}

static void a_list_may_be_long(void **state)
{
    enum { COUNT = 300 };
    static char text[COUNT * 32];
    struct precondition precondition;
    size_t len = 0;

    (void)state;
    for (unsigned i = 0; i < COUNT; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "\"00000000000000aa-%x\", ", i + 1);
    }
    for (unsigned number = 0; number <= COUNT + 1; number++) {
        struct store_current current = {.exists = true, .version = {0xAA, number}};

        precondition_init(&precondition);
        assert_int_equal(precondition_if_none_match(&precondition, span_of(text, len)),
                         PROBLEM_NONE);
        assert_int_equal(precondition_decide(&precondition, PRECONDITION_READ, &current),
                         number >= 1 && number <= COUNT ? UNCHANGED : GO);
        precondition_release(&precondition);
    }
}

static void says_whether_there_is_anything_to_decide(void **state)
{
    static const struct {
        struct fields fields;
        bool any;
    } cases[] = {
        {{NULL, NULL, NULL, NULL}, false},
        {{.if_match = "\"x\""}, true},
        {{.if_none_match = "\"x\""}, true},
        {{.modified_since = SAME}, true},
        {{.unmodified_since = SAME}, true},
        {{.modified_since = "x", .unmodified_since = "y"}, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct precondition precondition;

        assert_int_equal(parse(&precondition, &cases[i].fields), PROBLEM_NONE);
        assert_int_equal(precondition_any(&precondition), cases[i].any);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decides_as_rfc_9110_says),
        cmocka_unit_test(a_malformed_list_is_no_list),
        cmocka_unit_test(several_lines_make_one_list),
        cmocka_unit_test(a_list_may_be_long),
        cmocka_unit_test(says_whether_there_is_anything_to_decide),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
