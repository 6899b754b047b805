/*
 * The command line of `varve serve`, as any bytes: NUL ends an argument, and what follows an
 * empty argument is the environment. Refused with one line, or within the limits of the table.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "service/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WORDS = 64, BYTES = 4096 };

static void check_limits(const struct config *config)
{
    for (size_t i = 0; i < config_options.count; i++) {
        const struct option_spec *spec = &config_options.specs[i];
        uint64_t value;

        if (spec->kind != OPTION_COUNT && spec->kind != OPTION_SIZE &&
            spec->kind != OPTION_DURATION)
            continue;
        memcpy(&value, (const char *)config + spec->offset, sizeof(value));
        assert(value >= spec->min || (value == 0 && spec->zero_note));
        assert(spec->max == 0 || value <= spec->max);
    }
    assert(config->data_dir[0] != '\0');
    assert(config->no_auth || address_is_loopback(&config->listen));
    assert(config->max_value_bytes < config->max_inflight_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[BYTES + 1];
    char *argv[WORDS + 1] = {NULL};
    char *environment[WORDS + 1] = {NULL};
    struct config config = {0};
    struct operands operands;
    struct err_detail why;
    char **words = argv;
    int argc = 0;
    int n = 0;

    size = size < BYTES ? size : BYTES;
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    for (char *word = text; word < text + size && n < WORDS; word += strlen(word) + 1) {
        if (*word == '\0' && words == argv) {
            words = environment;
            n = 0;
        } else {
            words[n++] = word;
            argc += words == argv;
        }
    }
    switch (options_parse(&config_options, argc, argv, environment, &config, &operands, &why)) {
    case OPTIONS_OK:
        check_limits(&config);
        options_release(&config_options, &config);
        break;
    case OPTIONS_BAD:
        assert(why.text[0] != '\0' && strpbrk(why.text, "\n\r") == NULL);
        break;
    case OPTIONS_HELP:
        break;
    }
    return 0;
}
