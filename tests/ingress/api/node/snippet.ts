// Create a contact
const contact = await trpc.contacts.create.mutate({
  tenantId: "tenant-uuid",
  phoneNumber: "+1234567890",
  name: "John Doe"
});

// Create a group
const group = await trpc.groups.create.mutate({
  tenantId: "tenant-uuid",
  name: "Marketing List",
  description: "Q1 Marketing Campaign"
});

// Add contacts to group
await trpc.groups.addContacts.mutate({
  groupId: group.group.id,
  contactIds: [contact.contact.id]
});

// Create a campaign
const campaign = await trpc.campaigns.create.mutate({
  tenantId: "tenant-uuid",
  whatsappInstanceId: "instance-uuid",
  name: "Q1 Promotion",
  message: "Hello! Check out our new offers!",
  recipientType: "groups",
  recipientIds: [group.group.id]
});

// Start the campaign
await trpc.campaigns.start.mutate({
  id: campaign.campaign.id
});
