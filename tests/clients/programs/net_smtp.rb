# net_smtp.rb PORT DIRECTORY FROM TO...: sends DIRECTORY/message.
require "net/smtp"

port, directory, from, *to = ARGV
message = File.binread("#{directory}/message")
user, secret = ENV.fetch("LOGIN", "").split(":", 2)
kind = (ENV["MECHANISM"] || "plain").downcase.to_sym
smtp = Net::SMTP.new("127.0.0.1", port.to_i)
smtp.start(helo: "client.example", user: user, secret: secret,
           authtype: user && kind) { |s| s.send_message(message, from, *to) }
