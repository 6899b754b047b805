/* The options of `varve serve`: defaults, and what must hold between values. */
#include "service/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct config config;
static struct err_detail why;

#define PARSE(...) parse((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static enum options_outcome parse(const char *const argv[])
{
    static char *const no_environment[] = {NULL};
    struct operands operands;
    int argc = 0;

    while (argv[argc])
        argc++;
    config = (struct config){0};
    why.text[0] = '\0';
    return options_parse(&config_options, argc, (char *const *)argv, no_environment, &config,
                         &operands, &why);
}

static void defaults_are_those_of_the_documents(void **state)
{
    char listen[ADDRESS_TEXT_BYTES];

    (void)state;
    assert_int_equal(PARSE(), OPTIONS_OK);
    address_format(&config.listen, listen);
    assert_string_equal(listen, "127.0.0.1:7070");
    assert_string_equal(config.data_dir, "./data");
    assert_int_equal(config.memtable_bytes, 64 << 20);
    assert_int_equal(config.max_value_bytes, 16 << 20);
    assert_true(config.max_inflight_bytes >= config.max_value_bytes);
    assert_int_equal(config.compaction_bytes_per_s, 0);
    assert_int_equal(config.on_log_failure, ON_LOG_FAILURE_READ_ONLY);
    assert_true(config.threads >= 1);
    assert_int_equal(config.connections, 4096);
    assert_int_equal(config.header_timeout_ms, 10000);
    assert_int_equal(config.idle_timeout_ms, 75000);
    assert_int_equal(config.drain_delay_ms, 0);
    assert_int_equal(config.drain_timeout_ms, 25000);
    assert_false(config.no_auth);
    assert_int_equal(config.host_names.count, 0);
    assert_int_equal(config.log_level, LOG_INFO);
    assert_int_equal(config.log_format, LOG_AS_TEXT);
}

static void a_host_name_is_one_that_can_match(void **state)
{
    static const char *const good[] = {"store.example", "a_b-c", "10.0.0.1", "[fd00::1]"};
    static const char *const bad[] = {"store.example:7070", "a b", "http://a", "[::1", "[]"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(PARSE("--host-name", good[i]), OPTIONS_OK);
        options_release(&config_options, &config);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(PARSE("--host-name", bad[i]), OPTIONS_BAD);
        assert_non_null(strstr(why.text, bad[i]));
    }
    /* Regression, found by fuzz/options: what is said stays one line. */
    assert_int_equal(PARSE("--host-name", "a\r\nb"), OPTIONS_BAD);
    assert_non_null(strstr(why.text, "\"a??b\""));
}

static void choices_and_enums_are_in_the_same_order(void **state)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    static const enum log_level expected[] = {LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(PARSE("--log-level", levels[i]), OPTIONS_OK);
        assert_int_equal(config.log_level, expected[i]);
    }
    assert_int_equal(PARSE("--log-format=json"), OPTIONS_OK);
    assert_int_equal(config.log_format, LOG_AS_JSON);
    assert_int_equal(PARSE("--on-log-failure=exit"), OPTIONS_OK);
    assert_int_equal(config.on_log_failure, ON_LOG_FAILURE_EXIT);
}

static void an_address_that_others_reach_needs_no_auth(void **state)
{
    static const char *const open[] = {"0.0.0.0:7070", "[::]:7070", "10.0.0.1:0"};
    static const char *const loopback[] = {"127.0.0.2:7070", "[::1]:0", "localhost:80"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(PARSE("--listen", open[i]), OPTIONS_BAD);
        assert_non_null(strstr(why.text, "--listen"));
        assert_non_null(strstr(why.text, open[i]));
        assert_non_null(strstr(why.text, "--no-auth"));
        assert_null(strchr(why.text, '\n'));
        assert_int_equal(PARSE("--no-auth", "--listen", open[i]), OPTIONS_OK);
        assert_int_equal(PARSE("--listen", loopback[i]), OPTIONS_OK);
    }
}

static void a_value_must_fit_into_what_may_be_in_flight(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--max-value-bytes=1MiB", "--max-inflight-bytes=1280KiB"), OPTIONS_OK);
    assert_int_equal(PARSE("--max-value-bytes=1MiB", "--max-inflight-bytes=1MiB"), OPTIONS_BAD);
    assert_string_equal(why.text, "--max-inflight-bytes 1MiB must be at least 256KiB more than "
                                  "--max-value-bytes 1MiB");
}

static void every_thread_has_a_connection(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--threads=3", "--connections=2"), OPTIONS_BAD);
    assert_int_equal(PARSE("--connections=1"), OPTIONS_OK);
    assert_int_equal(config.threads, 1);
}

static void options_that_do_nothing_yet_are_unknown(void **state)
{
    static const char *const later[] = {
        "--cors-origin=*",     "--tokens-file=x",   "--tls-cert=x",
        "--tls-key=x",         "--tls-client-ca=x", "--admin-listen=127.0.0.1:1",
        "--max-batch-bytes=1",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
        assert_int_equal(PARSE(later[i]), OPTIONS_BAD);
        assert_int_equal(strncmp(why.text, "unknown option --", 17), 0);
    }
}

/* Kubernetes puts VARVE_PORT and VARVE_SERVICE_... into the environment for a Service that is
 * called varve. */
static void no_option_is_named_like_a_variable_of_kubernetes(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_options.count; i++) {
        const char *name = config_options.specs[i].name;

        assert_int_not_equal(strncmp(name, "port", 4), 0);
        assert_int_not_equal(strncmp(name, "service", 7), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_documents),
        cmocka_unit_test(a_host_name_is_one_that_can_match),
        cmocka_unit_test(choices_and_enums_are_in_the_same_order),
        cmocka_unit_test(an_address_that_others_reach_needs_no_auth),
        cmocka_unit_test(a_value_must_fit_into_what_may_be_in_flight),
        cmocka_unit_test(every_thread_has_a_connection),
        cmocka_unit_test(options_that_do_nothing_yet_are_unknown),
        cmocka_unit_test(no_option_is_named_like_a_variable_of_kubernetes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
