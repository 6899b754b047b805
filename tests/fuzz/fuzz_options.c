/*
 * A command line, as any bytes: the command's name, then arguments; NUL ends each, and what follows
 * an empty argument is the environment. Refused with one line, or within the limits of the table.
 * Each word is also read as a value of each kind.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "service/command.h"
#include "service/config.h"
#include "service/values.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WORDS = 64, BYTES = 4096 };

static void check_limits(const struct option_table *table, const void *target)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct option_spec *spec = &table->specs[i];
        uint64_t value;

        if (spec->kind != OPTION_COUNT && spec->kind != OPTION_SIZE &&
            spec->kind != OPTION_DURATION)
            continue;
        memcpy(&value, (const char *)target + spec->offset, sizeof(value));
        assert(value >= spec->min || (value == 0 && (spec->zero_note || spec->fallback_note)));
        assert(spec->max == 0 || value <= spec->max);
    }
}

static void check_config(const struct config *config)
{
    assert(config->data_dir[0] != '\0');
    assert(config->no_auth || address_is_loopback(&config->listen));
    assert(config->max_value_bytes < config->max_inflight_bytes);
    assert(config->threads >= 1 && config->threads <= config->connections);
}

/* What was read is the same again through the text that messages show. */
static void check_values(const char *word)
{
    char text[VALUE_TEXT_BYTES];
    char shown[ADDRESS_TEXT_BYTES];
    struct address address;
    struct address same;
    uint64_t value;
    uint64_t again;

    if (count_parse(word, &value))
        assert(strspn(word, "0123456789") == strlen(word));
    if (size_parse(word, &value)) {
        size_format(value, text);
        assert(size_parse(text, &again) && again == value);
    }
    if (duration_parse(word, &value)) {
        duration_format(value, text);
        assert(duration_parse(text, &again) && again == value);
    }
    if (address_parse(word, &address)) {
        address_format(&address, shown);
        assert(address_parse(shown, &same));
        assert(address_port(&same) == address_port(&address));
        assert(address_is_loopback(&same) == address_is_loopback(&address));
    }
}

/* The arguments and the environment of one run. */
struct words {
    char *argv[WORDS + 1];
    char *environment[WORDS + 1];
    int argc;
};

/* Cuts the text, which is terminated, at its NULs. */
static struct words split(char *text, size_t size)
{
    struct words words = {.argc = 0};
    int n = 0;
    bool in_environment = false;

    for (char *word = text; word < text + size && n < WORDS; word += strlen(word) + 1) {
        check_values(word);
        if (*word == '\0' && !in_environment) {
            words.argc = n;
            in_environment = true;
            n = 0;
        } else {
            (in_environment ? words.environment : words.argv)[n++] = word;
        }
    }
    words.argc = in_environment ? words.argc : n;
    return words;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[BYTES + 1];
    static union {
        struct config config;
        char of_any_command[1024];
    } target;
    const struct command *command;
    struct operands operands;
    struct err_detail why;
    struct words words;

    size = size < BYTES ? size : BYTES;
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    words = split(text, size);
    command = words.argc > 0 ? command_find(words.argv[0]) : NULL;
    if (!command)
        return 0;
    memset(&target, 0, sizeof(target));
    switch (options_parse(command->options, words.argc - 1, words.argv + 1, words.environment,
                          &target, &operands, &why)) {
    case OPTIONS_OK:
        check_limits(command->options, &target);
        if (command->options == &config_options)
            check_config(&target.config);
        assert(operands.count >= command->options->operands_min);
        assert(operands.count <= command->options->operands_max);
        options_release(command->options, &target);
        break;
    case OPTIONS_BAD:
        assert(why.text[0] != '\0' && strpbrk(why.text, "\n\r") == NULL);
        break;
    case OPTIONS_HELP:
        break;
    }
    return 0;
}
