// smtp PORT DIRECTORY FROM TO...: sends DIRECTORY/message.
package main

import (
	"log"
	"net/smtp"
	"os"
	"strings"
)

func main() {
	args := os.Args[1:]
	message, err := os.ReadFile(args[1] + "/message")
	if err != nil {
		log.Fatal(err)
	}
	var auth smtp.Auth
	if login := os.Getenv("LOGIN"); login != "" {
		user, password, _ := strings.Cut(login, ":")
		auth = smtp.PlainAuth("", user, password, "127.0.0.1")
	}
	err = smtp.SendMail("127.0.0.1:"+args[0], auth, args[2], args[3:],
		message)
	if err != nil {
		log.Fatal(err)
	}
}
