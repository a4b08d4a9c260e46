#include "input.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static size_t
count_characters(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

static bool
read_text(struct shop_member *member, const json_t *value)
{
    const char *text = json_string_value(value);
    if (text == NULL)
        return false;
    size_t len = count_characters(text);
    if (len < (size_t)member->min || len > (size_t)member->max)
        return false;
    return snprintf(member->value, sizeof(member->value), "%s", text) < (int)sizeof(member->value);
}

static bool
read_number(struct shop_member *member, const json_t *value)
{
    if (!json_is_integer(value))
        return false;
    json_int_t number = json_integer_value(value);
    if (number < member->min || number > member->max)
        return false;
    snprintf(member->value, sizeof(member->value), "%" JSON_INTEGER_FORMAT, number);
    return true;
}

static void
refuse(struct shop_reply *reply, const char *name, const char *detail)
{
    char pointer[64];
    snprintf(pointer, sizeof(pointer), "/%.40s", name);
    shop_problem(reply, 422, "invalid", pointer, detail);
}

static bool
read_member(struct shop_member *member, const json_t *object, struct shop_reply *reply)
{
    char detail[160];
    const json_t *value = json_object_get(object, member->name);
    if (value == NULL) {
        snprintf(detail, sizeof(detail), "the member %s is missing", member->name);
        refuse(reply, member->name, detail);
        return false;
    }
    if (member->is_text ? read_text(member, value) : read_number(member, value))
        return true;
    snprintf(detail, sizeof(detail), "%s must be a %s of %" PRId64 " to %" PRId64 "%s",
        member->name, member->is_text ? "string" : "whole number", member->min, member->max,
        member->is_text ? " characters" : "");
    refuse(reply, member->name, detail);
    return false;
}

static bool
refuse_strangers(
    json_t *object, const struct shop_member *members, size_t count, struct shop_reply *reply)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        bool known = false;
        for (size_t i = 0; i < count; i++)
            known = known || strcmp(name, members[i].name) == 0;
        if (!known) {
            refuse(reply, name, "there is no such member");
            return false;
        }
    }
    return true;
}

bool
shop_input(const struct shop_request *request, struct shop_member *members, size_t count,
    struct shop_reply *reply)
{
    json_error_t error;
    json_t *object = json_loadb(request->body, request->body_len, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(object)) {
        json_decref(object);
        shop_problem(reply, 400, "bad-request", "", "the body is not one JSON object");
        return false;
    }
    bool ok = refuse_strangers(object, members, count, reply);
    for (size_t i = 0; ok && i < count; i++)
        ok = read_member(&members[i], object, reply);
    json_decref(object);
    return ok;
}
