// The messages and tools of a chat request, checked and made what templates expect.
//
// Messages: roles system, developer (an instruction like system, and shown as such), user,
// assistant and tool. Content is a text or a list of text parts, which are joined by newlines;
// parts of any other type are refused, and nothing is ever fetched. An assistant's message may have
// tool_calls instead; the arguments of a call become the object that their JSON is. Fields that
// nobody knows pass through to the template; null ones do not.
//
// Contract: pure functions. Errors: kInvalidArgument with the path of what is wrong
// ("messages[2].content[0].type").
#pragma once

#include "server/chat_format.h"

namespace latentd {

// Sets both forms of the messages of `chat`. `messages` undefined or none: an error.
Status read_messages(const jinja::Value& messages, ChatPrompt& chat);

// Sets the tools of `chat`; undefined, none and the empty list are no tools.
Status read_tools(const jinja::Value& tools, ChatPrompt& chat);

// Sets the documents of `chat`; undefined and none are no documents.
Status read_documents(const jinja::Value& documents, ChatPrompt& chat);

// Adds what the client gives its template besides (chat_template_kwargs).
Status read_template_kwargs(const jinja::Value& kwargs, ChatPrompt& chat);

// A prompt cannot both open an answer and go on inside of the last message.
Status check_continuation(const ChatPrompt& chat);

}  // namespace latentd
